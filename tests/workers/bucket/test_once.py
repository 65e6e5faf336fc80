"""What is created or replaced only once: believed when it has been seen, whatever the store answers."""

import errno
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.support.relay import Relay, Request, error, relay
from tests.support.s3 import S3
from tests.support.scripted import Answer
from workers.bucket.objectstore import ObjectStore
from workers.bucket.opening import open_bucket
from workers.bucket.protocol import Bucket
from workers.errors import BucketUnavailable

KIND = "application/json"
NAME = "b1/batch.json"


@pytest.fixture(params=["folder", "s3"])
def bucket(request: pytest.FixtureRequest, tmp_path: Path) -> Bucket:
    if request.param == "folder":
        return open_bucket((tmp_path / "bucket").as_uri(), {})
    s3: S3 = request.getfixturevalue("s3")
    return open_bucket(s3.fresh_url(), s3.env)


@pytest.fixture
def between(s3: S3) -> Iterator[Relay]:
    with relay(s3.endpoint) as found:
        yield found


@pytest.fixture
def behind(s3: S3, between: Relay) -> ObjectStore:
    """A bucket that is reached through the relay."""
    return ObjectStore(s3.fresh_url(), {**s3.env, "AWS_ENDPOINT_URL": between.url})


def conditional(request: Request) -> bool:
    return any(name.lower() in {"if-match", "if-none-match"} for name in request.headers)


def to_conditions(answer: Answer) -> Callable[[Request], Answer | None]:
    return lambda request: answer if request.method == "PUT" and conditional(request) else None


def ignoring_conditions(s3: S3) -> Callable[[Request], Answer | None]:
    """A server that does not know them; only taken out of a request, they would break its signature."""

    def answer(request: Request) -> Answer | None:
        if request.method != "PUT" or not conditional(request):
            return None
        key = unquote(request.path.partition("?")[0]).removeprefix(f"/{s3.bucket}/")
        stored = s3.raw_store().put(key, request.body)
        return Answer(200, b"", {"ETag": str(stored["e_tag"])})

    return answer


REFUSALS = [
    error(501, "NotImplemented"),
    error(400, "NotImplemented"),
    error(400, "InvalidArgument"),
    error(405, "MethodNotAllowed"),
]
CONFLICTS = [
    error(409, "ConditionalRequestConflict"),
    error(409, "OperationAborted"),
    error(409, "ContainerBeingDeleted"),
    error(412, "PreconditionFailed"),
]


@pytest.mark.parametrize("conflict", CONFLICTS, ids=lambda answer: str(answer.body[38:60]))
def test_a_conflict_over_an_object_that_is_not_there_is_tried_again(
    behind: ObjectStore, between: Relay, conflict: Answer
) -> None:
    between.answer = to_conditions(conflict)
    with pytest.raises(BucketUnavailable, match=r"^b1/batch\.json .*\.$"):
        behind.create(NAME, b"one", KIND)
    assert behind.get(NAME) is None

    between.answer = lambda _: None
    assert behind.create(NAME, b"one", KIND)
    assert behind.get(NAME) == b"one"


@pytest.mark.parametrize("conflict", CONFLICTS, ids=lambda answer: str(answer.body[38:60]))
def test_a_conflict_over_an_object_that_still_holds_the_old_is_tried_again(
    behind: ObjectStore, between: Relay, conflict: Answer
) -> None:
    behind.put(NAME, b"one", KIND)
    between.answer = to_conditions(conflict)
    with pytest.raises(BucketUnavailable, match=r"^b1/batch\.json .*\.$"):
        behind.replace(NAME, b"one", b"two", KIND)
    assert behind.get(NAME) == b"one"


def test_a_conflict_with_whoever_was_faster_is_a_no(behind: ObjectStore, between: Relay) -> None:
    def faster(request: Request) -> Answer | None:
        if request.method != "PUT" or not conditional(request):
            return None
        between.answer = lambda _: None
        behind.put(NAME, b"theirs", KIND)
        return error(409, "ConditionalRequestConflict")

    between.answer = faster
    assert not behind.create(NAME, b"ours", KIND)
    behind.put(NAME, b"old", KIND)
    between.answer = faster
    assert not behind.replace(NAME, b"old", b"ours", KIND)
    assert behind.get(NAME) == b"theirs"


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda answer: str(answer.status))
def test_a_store_that_refuses_conditions_creates_and_replaces_once_all_the_same(
    behind: ObjectStore, between: Relay, refusal: Answer
) -> None:
    between.answer = to_conditions(refusal)
    check_once(behind)
    assert len([request for request in between.asked if conditional(request)]) == 1


def test_a_store_that_ignores_conditions_creates_and_replaces_once_all_the_same(
    s3: S3, behind: ObjectStore, between: Relay
) -> None:
    between.answer = ignoring_conditions(s3)
    check_once(behind)
    assert not behind.remarks


def test_a_store_that_ignores_conditions_is_found_out_when_it_is_tried(
    s3: S3, behind: ObjectStore, between: Relay
) -> None:
    behind.put(NAME, b"one", KIND)
    assert behind.creates_once(NAME)
    between.answer = ignoring_conditions(s3)
    assert not behind.creates_once(NAME)
    (remark,) = behind.remarks
    assert "conditions" in remark


def check_once(bucket: Bucket) -> None:
    assert bucket.create(NAME, b"one", KIND)
    assert not bucket.create(NAME, b"other", KIND)
    assert bucket.get(NAME) == b"one"
    assert bucket.replace(NAME, b"one", b"two", KIND)
    assert not bucket.replace(NAME, b"one", b"three", KIND)
    assert bucket.get(NAME) == b"two"


def test_what_a_store_says_it_stored_and_did_not_is_not_believed(behind: ObjectStore, between: Relay) -> None:
    said = Answer(200, b"", {"ETag": '"0"'})
    between.answer = to_conditions(said)
    with pytest.raises(BucketUnavailable, match=r"^b1/batch\.json .*\.$"):
        behind.create(NAME, b"one", KIND)

    behind.put(NAME, b"one", KIND)
    with pytest.raises(BucketUnavailable, match=r"^b1/batch\.json .*\.$"):
        behind.replace(NAME, b"one", b"two", KIND)


@pytest.mark.parametrize("answer", [error(503, "SlowDown"), error(500, "InternalError"), Answer(200, cut=0)])
def test_an_answer_that_got_lost_leaves_one_object_and_no_doubt(
    behind: ObjectStore, between: Relay, answer: Answer
) -> None:
    def lose(request: Request) -> Answer | None:
        if request.method != "PUT":
            return None
        between.answer = lambda _: None
        between.forward(request)
        return answer

    between.answer = lose
    assert behind.create(NAME, b"one", KIND)
    assert behind.get(NAME) == b"one"
    between.answer = lose
    assert behind.replace(NAME, b"one", b"two", KIND)
    assert behind.get(NAME) == b"two"


def test_an_object_is_replaced_only_while_it_holds_what_was_seen(bucket: Bucket) -> None:
    assert not bucket.replace(NAME, b"", b"new", KIND)
    assert bucket.get(NAME) is None
    bucket.put(NAME, b"one", KIND)
    assert not bucket.replace(NAME, b"On", b"new", KIND)
    assert bucket.get(NAME) == b"one"
    assert bucket.replace(NAME, b"one", b"two", KIND)
    assert bucket.replace(NAME, b"two", b"two", KIND)
    assert bucket.get(NAME) == b"two"
    assert [name for name, _ in bucket.list("")] == [NAME]


def test_of_many_replacements_at_once_one_succeeds(bucket: Bucket) -> None:
    for round_ in range(2):
        name = f"b{round_}/batch.json"
        bucket.put(name, b"old", KIND)
        with ThreadPoolExecutor(8) as pool:
            replaced = list(
                pool.map(lambda n, name=name: bucket.replace(name, b"old", b"%d" % n, KIND), range(8))
            )
        assert replaced.count(True) == 1
        assert bucket.get(name) == b"%d" % replaced.index(True)


def test_of_many_creations_at_once_one_succeeds_also_where_there_are_no_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refuse)
    bucket = open_bucket(tmp_path.as_uri(), {})
    for round_ in range(30):
        name = f"b{round_}/batch.json"
        with ThreadPoolExecutor(8) as pool:
            created = list(pool.map(lambda n, name=name: bucket.create(name, b"%d" % n, KIND), range(8)))
        assert created.count(True) == 1
        assert bucket.get(name) == b"%d" % created.index(True)


@pytest.mark.parametrize("name", ["", "/a", "a/../b", "a\0b"])
def test_a_name_that_leads_elsewhere_is_neither_created_nor_replaced(bucket: Bucket, name: str) -> None:
    with pytest.raises(ValueError, match="not an object's name"):
        bucket.create(name, b"", KIND)
    with pytest.raises(ValueError, match="not an object's name"):
        bucket.replace(name, b"", b"", KIND)


def test_a_replaced_object_keeps_its_content_type(s3: S3) -> None:
    url = s3.fresh_url()
    bucket = ObjectStore(url, s3.env)
    bucket.put(NAME, b"one", KIND)
    assert bucket.replace(NAME, b"one", b"two", KIND)
    store = s3.raw_store(url.removeprefix(f"{s3.url}/"))
    assert store.get(NAME).attributes["Content-Type"] == KIND
