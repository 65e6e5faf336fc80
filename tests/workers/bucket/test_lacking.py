"""Stores that lack an ability: another way is taken, and said once."""

import re
import time
from collections.abc import Callable, Iterator

import pytest

from tests.support.relay import Relay, Request, error, relay
from tests.support.s3 import S3
from tests.support.scripted import Answer
from workers.bucket.objectstore import ObjectStore
from workers.bucket.protocol import BucketRefused, MissingObject
from workers.errors import BucketUnavailable

KIND = "application/jsonl"


@pytest.fixture
def between(s3: S3) -> Iterator[Relay]:
    with relay(s3.endpoint) as found:
        yield found


@pytest.fixture
def behind(s3: S3, between: Relay) -> ObjectStore:
    """A bucket that is reached through the relay."""
    return ObjectStore(s3.fresh_url(), {**s3.env, "AWS_ENDPOINT_URL": between.url})


def deletes_a_list(request: Request) -> bool:
    return request.method == "POST" and "?delete" in request.path


def copies(request: Request) -> bool:
    return any(name.lower() == "x-amz-copy-source" for name in request.headers)


def per_key(code: str) -> Callable[[Request], Answer]:
    """As AWS answers where a policy forbids it."""

    def answer(request: Request) -> Answer:
        errors = "".join(
            f"<Error><Key>{key}</Key><Code>{code}</Code><Message>m</Message></Error>"
            for key in re.findall("<Key>(.*?)</Key>", request.body.decode())
        )
        body = f"<?xml version='1.0'?><DeleteResult>{errors}</DeleteResult>"
        return Answer(200, body.encode(), {"Content-Type": "application/xml"})

    return answer


def at_once(answer: Answer) -> Callable[[Request], Answer]:
    return lambda _: answer


def names(bucket: ObjectStore) -> list[str]:
    return sorted(name for name, _ in bucket.list(""))


@pytest.mark.parametrize(
    "refusal",
    [
        at_once(error(501, "NotImplemented")),
        at_once(error(400, "InvalidArgument")),
        at_once(error(400, "MalformedXML")),
        at_once(error(405, "MethodNotAllowed")),
        at_once(error(403, "AccessDenied")),
        per_key("AccessDenied"),
    ],
    ids=["501", "400", "400xml", "405", "403", "a key's 403"],
)
def test_a_store_that_deletes_no_lists_is_asked_object_by_object(
    behind: ObjectStore, between: Relay, refusal: Callable[[Request], Answer]
) -> None:
    between.answer = lambda request: refusal(request) if deletes_a_list(request) else None
    for number in range(30):
        behind.put(f"_work/b1/{number}%2F", b"1", KIND)
    behind.put("b1/batch.json", b"{}", KIND)
    started = time.monotonic()
    behind.delete(["_work/b1/0%2F", "_work/b1/missing"])
    behind.delete_tree("_work/b1")
    assert time.monotonic() - started < 5
    assert names(behind) == ["b1/batch.json"]
    assert len([request for request in between.asked if deletes_a_list(request)]) == 1
    (remark,) = behind.remarks
    assert "one by one" in remark


def test_a_bulk_deletion_that_only_stumbles_is_tried_again_and_remembered_as_offered(
    behind: ObjectStore, between: Relay
) -> None:
    answers = [error(503, "SlowDown"), error(500, "InternalError")]
    between.answer = lambda request: answers.pop() if answers and deletes_a_list(request) else None
    behind.put("b1/a", b"1", KIND)
    behind.delete(["b1/a"])
    assert names(behind) == []
    assert not behind.remarks


def test_the_variable_for_single_deletions_is_heeded(s3: S3, between: Relay) -> None:
    env = {**s3.env, "AWS_ENDPOINT_URL": between.url, "AWS_DISABLE_BULK_DELETE": "true"}
    bucket = ObjectStore(s3.fresh_url(), env)
    bucket.put("b1/a", b"1", KIND)
    bucket.delete(["b1/a", "b1/missing"])
    assert names(bucket) == []
    assert not any(map(deletes_a_list, between.asked))


@pytest.mark.parametrize(
    "refusal", [at_once(error(403, "AccessDenied")), per_key("AccessDenied")], ids=["all", "a key's"]
)
def test_where_we_may_not_delete_the_permission_is_named(
    behind: ObjectStore, between: Relay, refusal: Callable[[Request], Answer]
) -> None:
    def answer(request: Request) -> Answer | None:
        if deletes_a_list(request):
            return refusal(request)
        return error(403, "AccessDenied") if request.method == "DELETE" else None

    behind.put("b1/a", b"1", KIND)
    between.answer = answer
    with pytest.raises(BucketRefused, match=r"^[^\n]* to delete [^\n]*s3:DeleteObject[^\n]*\.$"):
        behind.delete(["b1/a"])


@pytest.mark.parametrize("code", ["InternalError", "SlowDown"])
def test_a_key_that_could_not_be_deleted_this_time_is_tried_again_later(
    behind: ObjectStore, between: Relay, code: str
) -> None:
    between.answer = lambda request: per_key(code)(request) if deletes_a_list(request) else None
    with pytest.raises(BucketUnavailable, match=code):
        behind.delete(["b1/a"])
    assert not behind.remarks


def not_found(request: Request) -> Answer | None:
    return error(404, "NoSuchKey") if copies(request) else None


def refusing(answer: Answer) -> Callable[[Request], Answer | None]:
    return lambda request: answer if copies(request) else None


@pytest.mark.parametrize(
    "answer",
    [
        not_found,
        refusing(error(501, "NotImplemented")),
        refusing(error(400, "InvalidArgument")),
        refusing(error(403, "AccessDenied")),
        refusing(Answer(200, error(403, "AccessDenied").body)),
        refusing(Answer(200, b"<CopyObjectResult/>")),
    ],
    ids=["404", "501", "400", "403", "403 inside a 200", "a lie"],
)
def test_where_a_store_does_not_copy_the_bytes_pass_here(
    behind: ObjectStore, between: Relay, answer: Callable[[Request], Answer | None]
) -> None:
    behind.put("_work/b1/a%2F", b"0123456789", KIND)
    between.answer = answer
    behind.copy("_work/b1/a%2F", "b1/a", KIND)
    behind.copy("_work/b1/a%2F", "b1/b", KIND)
    assert behind.get("b1/a") == behind.get("b1/b") == b"0123456789"
    assert len([request for request in between.asked if copies(request)]) == 1
    (remark,) = behind.remarks
    assert "pass through the worker" in remark


def test_a_copy_of_what_is_missing_says_so_and_is_no_lack(behind: ObjectStore) -> None:
    with pytest.raises(MissingObject, match="b1/nothing"):
        behind.copy("b1/nothing", "b1/here", KIND)
    assert not behind.remarks
