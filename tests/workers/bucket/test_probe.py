"""The look at a bucket before anything depends on it."""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from emulator.demo.local_redis import free_port
from tests.support.processes import ROOT
from tests.support.relay import Relay, Request, error, relay
from tests.support.s3 import S3
from tests.support.scripted import Answer
from workers.bucket.opening import open_bucket
from workers.bucket.probe import probe, probe_apart, try_bucket
from workers.bucket.protocol import Bucket, BucketRefused, DiskFull
from workers.errors import BucketUnavailable, SettingsError

Answers = Callable[[Request], Answer | None]


@pytest.fixture
def between(s3: S3) -> Iterator[Relay]:
    with relay(s3.endpoint) as found:
        yield found


@pytest.fixture
def behind(s3: S3, between: Relay) -> Bucket:
    return open_bucket(s3.fresh_url(), {**s3.env, "AWS_ENDPOINT_URL": between.url})


def conditional(request: Request) -> bool:
    names = {name.lower() for name in request.headers}
    return request.method == "PUT" and bool(names & {"if-match", "if-none-match"})


def copies(request: Request) -> bool:
    return any(name.lower() == "x-amz-copy-source" for name in request.headers)


def as_if_deleted(request: Request) -> Answer:
    keys = re.findall("<Key>.*?</Key>", request.body.decode())
    deleted = "".join(f"<Deleted>{key}</Deleted>" for key in keys)
    body = f"<?xml version='1.0'?><DeleteResult>{deleted}</DeleteResult>"
    return Answer(200, body.encode(), {"Content-Type": "application/xml"})


def to(condition: Callable[[Request], bool], answer: Answer) -> Answers:
    return lambda request: answer if condition(request) else None


def test_a_good_bucket_is_left_as_it_was_and_has_no_remarks(s3: S3, tmp_path: Path) -> None:
    for bucket in (open_bucket(tmp_path.as_uri(), {}), open_bucket(s3.fresh_url(), s3.env)):
        bucket.put("b1/batch.json", b"{}", "application/json")
        assert probe(bucket) == ()
        assert list(bucket.list("")) == [("b1/batch.json", 2)]
    assert [path.name for path in tmp_path.iterdir()] == ["b1"]


SURVIVABLE: list[tuple[Answers, str]] = [
    (to(conditional, error(501, "NotImplemented")), "conditions"),
    (to(lambda request: request.method == "POST", error(501, "NotImplemented")), "one by one"),
    (to(copies, error(501, "NotImplemented")), "pass through the worker"),
    (to(copies, error(404, "NoSuchKey")), "pass through the worker"),
]


@pytest.mark.parametrize(("answer", "words"), SURVIVABLE, ids=["conditions", "deletion", "copy", "copy 404"])
def test_what_a_store_lacks_and_can_be_worked_around_is_said_in_a_sentence(
    behind: Bucket, between: Relay, answer: Answers, words: str
) -> None:
    between.answer = answer
    (remark,) = probe(behind)
    assert words in remark
    assert remark.endswith(".")
    assert "\n" not in remark
    assert list(behind.list("")) == []


def test_all_that_a_store_may_lack_may_be_lacking_at_once(behind: Bucket, between: Relay) -> None:
    between.answer = lambda request: next(filter(None, (answer(request) for answer, _ in SURVIVABLE)), None)
    assert len(probe(behind)) == 3
    assert list(behind.list("")) == []


FATAL: list[tuple[Answers, str]] = [
    (to(lambda request: request.method == "PUT", error(403, "AccessDenied")), "s3:PutObject"),
    (to(lambda request: request.method in {"GET", "HEAD"}, error(403, "AccessDenied")), "s3:GetObject"),
    (to(lambda request: "list-type" in request.path, error(403, "AccessDenied")), "s3:ListBucket"),
    (to(lambda request: request.method in {"POST", "DELETE"}, error(403, "AccessDenied")), "s3:DeleteObject"),
    (lambda _: error(301, "PermanentRedirect"), "AWS_REGION"),
    (lambda _: error(400, "AuthorizationHeaderMalformed"), "AWS_REGION"),
    (lambda _: error(404, "NoSuchBucket"), "create the bucket"),
    (lambda _: error(403, "InvalidAccessKeyId"), "InvalidAccessKeyId"),
    (to(lambda request: "list-type" in request.path, error(404, "NoSuchKey")), "AWS_ENDPOINT_URL"),
    (
        to(lambda request: "list-type" in request.path, Answer(200, b"<ListBucketResult/>")),
        "AWS_ENDPOINT_URL",
    ),
    (lambda request: as_if_deleted(request) if request.method == "POST" else None, "retention"),
]


@pytest.mark.parametrize(("answer", "words"), FATAL)
def test_what_can_never_work_is_said_in_a_sentence_that_names_what_to_correct(
    behind: Bucket, between: Relay, answer: Answers, words: str
) -> None:
    between.answer = answer
    with pytest.raises((SettingsError, BucketRefused), match=rf"^[^\n]*{words}[^\n]*\.$"):
        probe(behind)


def test_a_server_that_is_away_is_no_reason_to_give_up(s3: S3) -> None:
    env = {**s3.env, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}"}
    with pytest.raises(BucketUnavailable, match="no connection"):
        probe(open_bucket("s3://tests", env))


def test_a_server_in_trouble_is_no_reason_to_give_up(behind: Bucket, between: Relay) -> None:
    between.answer = lambda _: error(500, "InternalError")
    with pytest.raises(BucketUnavailable, match="500 InternalError"):
        probe(behind)


def test_no_credentials_at_all_is_a_setting_to_correct() -> None:
    with pytest.raises(SettingsError, match="AWS_ACCESS_KEY_ID"):
        probe(open_bucket("s3://tests", {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}))


def test_settings_that_are_not_heeded_are_among_the_remarks(s3: S3) -> None:
    (remark,) = probe(open_bucket(s3.fresh_url(), {**s3.env, "AWS_PROFILE": "mine"}))
    assert remark.startswith("AWS_PROFILE is not read")


def test_a_full_disk_is_found_before_a_batch_is(tmp_path: Path) -> None:
    if (
        os.geteuid()
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", tmp_path], check=False, capture_output=True
        ).returncode
    ):
        pytest.skip("only root may mount a small disk")
    try:
        bucket = open_bucket(tmp_path.as_uri(), {})
        with pytest.raises(DiskFull):
            bucket.put("fill", bytes(1 << 20), "")
        (tmp_path / "fill").write_bytes(bytes(60 << 10))
        with pytest.raises(DiskFull):
            probe(bucket)
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_a_look_from_a_process_of_its_own_says_the_same(s3: S3, between: Relay, tmp_path: Path) -> None:
    env = {**s3.env, "AWS_ENDPOINT_URL": between.url}
    assert probe_apart(tmp_path.as_uri(), {}) == ()
    between.answer = SURVIVABLE[0][0]
    (remark,) = probe_apart(s3.fresh_url(), env)
    assert "conditions" in remark
    between.answer = FATAL[0][0]
    with pytest.raises(BucketRefused, match=r"s3:PutObject"):
        probe_apart(s3.fresh_url(), env)
    with pytest.raises(SettingsError, match="AWS_ENDPOINT_URL"):
        probe_apart("s3://b", {**env, "AWS_ENDPOINT_URL": "nowhere:1"})


def test_a_look_is_over_in_time_also_where_nobody_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        env = {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{silent.getsockname()[1]}",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
        }
        for reading in (True, False):
            with pytest.raises(BucketUnavailable, match=r"did not answer within 3 seconds\.$"):
                probe_apart("s3://b", env, reading=reading, seconds=3)


def test_who_only_reads_needs_no_permission_to_write(s3: S3, between: Relay) -> None:
    url, env = s3.fresh_url(), {**s3.env, "AWS_ENDPOINT_URL": between.url}
    between.answer = to(lambda request: request.method not in {"GET", "HEAD"}, error(403, "AccessDenied"))
    assert try_bucket(url, env, reading=True) == ()
    assert {request.method for request in between.asked} == {"GET"}

    def is_list(request: Request) -> bool:
        return "list-type" in request.path

    for refused, words in ((is_list, "s3:ListBucket"), (lambda each: not is_list(each), "s3:GetObject")):
        between.answer = to(refused, error(403, "AccessDenied"))
        with pytest.raises(SettingsError, match=words):
            try_bucket(url, env, reading=True)


def test_what_is_refused_once_only_is_no_reason_to_end(s3: S3, between: Relay) -> None:
    answers = [error(403, "AccessDenied")]
    between.answer = lambda _: answers.pop() if answers else None
    assert try_bucket(s3.fresh_url(), {**s3.env, "AWS_ENDPOINT_URL": between.url}) == ()


def test_after_a_look_from_a_process_of_its_own_a_process_may_fork(s3: S3) -> None:
    script = """
import os, sys
from workers.bucket.opening import open_bucket
from workers.bucket.probe import probe_apart
if __name__ == "__main__":
    assert probe_apart(sys.argv[1], os.environ) == ()
    bucket = open_bucket(sys.argv[1], os.environ)
    children = []
    for number in range(4):
        child = os.fork()
        if not child:
            bucket.put(f"child/{number}", b"1", "")
            os._exit(0)
        children.append(child)
    sys.exit(any(os.waitpid(child, 0)[1] for child in children))
"""
    url = s3.fresh_url()
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **s3.env}
    ended = subprocess.run([sys.executable, "-c", script, url], env=env, timeout=60, check=False)
    assert ended.returncode == 0
    assert len(list(open_bucket(url, s3.env).list("child"))) == 4
