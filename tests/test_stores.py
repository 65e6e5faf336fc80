"""The whole product on every kind of store, and on one that misbehaves: each batch committed once, and whole."""

import base64
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.support.deployment import Deployment, result_line
from tests.support.gemini import Gemini
from tests.support.processes import Process
from tests.support.relay import SILENCE, Relay, Request, error, relay
from tests.support.s3 import S3
from tests.support.scripted import Answer
from tests.support.stores import STORES, Store
from tests.support.waiting import wait_until
from workers import status
from workers.bucket.opening import open_bucket
from workers.bucket.protocol import Bucket
from workers.contract import Queues

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
ODD_KEYS = [
    "a/b",
    "..",
    ".",
    "ключ",
    "😀",
    "100%",
    "a%2Fb",
    "key",
    "key.",
    "KEY",
    "_index",
    "x" * 300,
    " ",
    "t\ty",
]
PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(2000)).decode()
Answers = Callable[[Request], Answer | None]


def many() -> bytes:
    """Several parts of 64 KiB."""
    return b"".join(result_line(f"request-{number}", "An answer. " * 30) for number in range(600))


def odd() -> bytes:
    """Odd keys with images, repeated ones, failures, and lines that are none."""
    part = {"inlineData": {"mimeType": "image/png", "data": PNG}}
    candidates = [{"content": {"role": "model", "parts": [{"text": "see"}, part]}, "finishReason": "STOP"}]
    lines = [result_line(key, candidates=candidates) for key in ODD_KEYS]
    lines += [result_line("request-1"), result_line("request-1"), b"no json\n"]
    lines += [json.dumps({"key": "failed", "error": {"code": 400, "message": "no"}}).encode() + b"\n"]
    return b"".join(lines)


@pytest.fixture
def deployed(
    start_process: Callable[..., Process], gemini: Gemini, redis_url: str, tmp_path: Path
) -> Callable[[str, Mapping[str, str]], tuple[Deployment, Bucket]]:
    def deploy(url: str, env: Mapping[str, str]) -> tuple[Deployment, Bucket]:
        settings = {"STORAGE_URL": url, "OUTPUTS": "objects,parquet", "PART_BYTES": "64KiB", **env}
        return Deployment(start_process, gemini, redis_url, tmp_path / "unused", settings), open_bucket(
            url, env
        )

    return deploy


def commit(deployment: Deployment, bucket: Bucket, seconds: float = 120) -> list[str]:
    """Have three batches committed and tidied; their ids."""
    gemini = deployment.gemini
    batches = [gemini.put_batch(many()), gemini.put_batch(odd()), gemini.put_batch(b"", state="FAILED")]
    for batch in batches:
        gemini.announce(batch)
    committed = [f"{batch}/batch.json" for batch in batches]
    wait_until(lambda: all(map(bucket.get, committed)), seconds=seconds, what=f"the commit of {batches}")
    wait_until(lambda: not list(bucket.list("_work")), seconds=seconds, what="tidying up")
    return batches


def check(deployment: Deployment, bucket: Bucket, batches: list[str]) -> None:
    for batch in batches:
        checked = deployment.run("verify", batch)
        assert checked.returncode == 0, checked.output
        summary = json.loads(bucket.get(f"{batch}/batch.json") or b"")
        assert summary["revision"] == 1
        assert bucket.get(f"_index/{summary['committed_at'][:10]}/{batch}.json") == bucket.get(
            f"{batch}/batch.json"
        )
    assert len(list(bucket.list(f"{batches[0]}/outputs"))) == 600
    assert len(list(bucket.list(f"{batches[0]}/dataset"))) > 3
    assert len(list(bucket.list(f"{batches[1]}/media"))) == len(ODD_KEYS)


@pytest.mark.parametrize("name", STORES)
def test_batches_are_committed_whole_on_every_kind_of_store(
    name: str,
    stores: Callable[[str], Store],
    deployed: Callable[[str, Mapping[str, str]], tuple[Deployment, Bucket]],
) -> None:
    store = stores(name)
    deployment, bucket = deployed(store.fresh_url(), store.env)
    deployment.subscribe()
    worker = deployment.work("--workers", "2")
    batches = commit(deployment, bucket)
    check(deployment, bucket, batches)
    before = {name: bucket.get(name) for name, _ in bucket.list("")}

    assert deployment.run("replay", batches[0]).returncode == 0
    silent = deployment.gemini.put_batch(result_line("a"))
    processed = deployment.run("process", silent)
    assert processed.returncode == 0, processed.output
    assert deployment.run("verify", silent).returncode == 0
    assert worker.stop() == 0
    assert {name: bucket.get(name) for name in before} == before


def test_credentials_that_are_refused_for_a_while_cost_no_batch(
    s3: S3,
    between: Relay,
    deployed: Callable[[str, Mapping[str, str]], tuple[Deployment, Bucket]],
) -> None:
    """As a token that expires: what was announced meanwhile waits, with the reason, and comes once they are good."""
    url = s3.fresh_url()
    deployment, _ = deployed(url, {**s3.env, "AWS_ENDPOINT_URL": between.url})
    deployment.subscribe()
    deployment.work("--workers", "2")
    bucket = open_bucket(url, s3.env)
    gemini = deployment.gemini
    between.answer = lambda _: error(403, "InvalidAccessKeyId")
    refused = [gemini.put_batch(many()), gemini.put_batch(b"", state="FAILED")]
    for batch in refused:
        gemini.announce(batch)

    def waiting() -> dict[str, Any]:
        with redis.Redis.from_url(deployment.env["REDIS_URL"]) as client:
            found = status.overview(Queues(client), bucket)
        assert not found["failed"]
        return {job["job"]: job for job in found["waiting"] if job["next_try"]}

    wait_until(lambda: len(waiting()) == 2, seconds=60, what="both to wait")
    for job in waiting().values():
        assert "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in job["reason"]
    between.answer = lambda _: None
    for batch in refused:
        assert deployment.run("replay", batch).returncode == 0
    batches = commit(deployment, bucket)
    check(deployment, bucket, batches)
    wait_until(lambda: all(bucket.get(f"{batch}/batch.json") for batch in refused), seconds=60)


def conditional(request: Request) -> bool:
    names = {name.lower() for name in request.headers}
    return request.method == "PUT" and bool(names & {"if-match", "if-none-match"})


def copies(request: Request) -> bool:
    return any(name.lower() == "x-amz-copy-source" for name in request.headers)


def deletes_a_list(request: Request) -> bool:
    return request.method == "POST" and "?delete" in request.path


def each(which: Callable[[Request], bool], answer: Answer) -> Answers:
    return lambda request: answer if which(request) else None


def every(nth: int, answer: Answer) -> Answers:
    numbers = count(1)
    return lambda _: answer if next(numbers) % nth == 0 else None


def first(which: Callable[[Request], bool], answer: Answer) -> Answers:
    """Of each object's requests the first one, so that a try that comes later succeeds."""
    seen: set[str] = set()

    def found(request: Request) -> Answer | None:
        if not which(request) or request.path in seen:
            return None
        seen.add(request.path)
        return answer

    return found


MISBEHAVIOUR: Mapping[str, Answers] = {
    "a conflict at each creation": first(conditional, error(409, "ConditionalRequestConflict")),
    "a lie at each creation": first(conditional, Answer(200, b"", {"ETag": '"0"'})),
    "no conditions": each(conditional, error(501, "NotImplemented")),
    "no lists to delete": each(deletes_a_list, error(501, "NotImplemented")),
    "no lists to delete, 400": each(deletes_a_list, error(400, "InvalidArgument")),
    "no copies": each(copies, error(501, "NotImplemented")),
    "a lie at each copy": each(copies, Answer(200, b"<CopyObjectResult/>")),
    "busy at every third": every(3, error(503, "SlowDown")),
    "too many at every third": every(3, error(429, "TooManyRequests")),
    "broken at every tenth": every(10, error(500, "InternalError")),
    "no answer at every tenth": every(10, SILENCE),
}


def cutting(between: Relay) -> Answers:
    """Every tenth answer ends in the middle; what was asked for has been done."""
    numbers = count(1)

    def answer(request: Request) -> Answer | None:
        if next(numbers) % 10:
            return None
        whole = between.forward(request)
        return replace(whole, cut=len(whole.body) // 2) if whole.body else SILENCE

    return answer


@pytest.fixture
def between(s3: S3) -> Iterator[Relay]:
    with relay(s3.endpoint) as found:
        yield found


@pytest.mark.parametrize("how", [*MISBEHAVIOUR, "cut off at every tenth"])
def test_batches_are_committed_whole_on_a_store_that_misbehaves(
    how: str,
    s3: S3,
    between: Relay,
    deployed: Callable[[str, Mapping[str, str]], tuple[Deployment, Bucket]],
) -> None:
    url = s3.fresh_url()
    deployment, bucket = deployed(url, {**s3.env, "AWS_ENDPOINT_URL": between.url})
    deployment.subscribe()
    deployment.work("--workers", "2", "--wait")  # Else the look at the start may be what meets it.
    between.answer = MISBEHAVIOUR.get(how) or cutting(between)
    batches = commit(deployment, open_bucket(url, s3.env))
    between.answer = lambda _: None
    check(deployment, bucket, batches)
