"""A small batch of each kind, put to a local Gemini: what there is before a worker begins."""

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from redis import Redis

from tests.support.deployment import result_line
from tests.support.gemini import Gemini
from workers.bucket import layout
from workers.bucket.protocol import Bucket

BATCH = "crash"
PART_BYTES = 1500

_ONE = (
    result_line("a", "one") + result_line("b/c", "two") + b'{"key":"d","error":{"code":3,"message":"no"}}\n'
)
_MANY = b"".join(result_line(f"k{n % 13}", "x" * 200) for n in range(15))


@dataclass(frozen=True, slots=True)
class Here:
    """What a change may change: the local Gemini, the bucket, and Redis."""

    gemini: Gemini
    bucket: Bucket
    redis: Redis


Change = Callable[[Here], None]


@dataclass(frozen=True, slots=True)
class Kind:
    """`begin` puts the batch as it is first, `change` what becomes of it halfway, `meanwhile` while a worker is dead.

    Before a change workers have done all they could, or have been killed after so many `steps`, calls. Afterwards it
    is announced once more, unless only `reconcile` is to find it. `ends`: state and number of results at last.
    """

    begin: Change
    ends: tuple[str, int]
    change: Change | None = None
    steps: int | None = None
    is_announced_again: bool = True
    meanwhile: Change | None = None
    outputs: str = "objects"
    outputs_at_last: str | None = None


def _put(lines: bytes, state: str = "SUCCEEDED", **options: Any) -> Change:
    def put(here: Here) -> None:
        here.gemini.put_batch(lines, batch_id=BATCH, state=state, **options)

    return put


def _inline(here: Here) -> None:
    answers = [json.loads(line) for line in _ONE.splitlines()]
    elements = [{"metadata": {"key": each.pop("key")}, **each} for each in answers]
    here.gemini.put_operation(
        {
            "name": f"batches/{BATCH}",
            "metadata": {"state": "BATCH_STATE_SUCCEEDED"},
            "done": True,
            "response": {"inlinedResponses": {"inlinedResponses": elements}},
        },
        batch_id=BATCH,
    )


def _media() -> bytes:
    picture = {
        "inlineData": {"mimeType": "image/png", "data": base64.b64encode(b"\x89PNG\r\n\x1a\n..").decode()}
    }
    parts = [{"text": "Look."}, picture, picture]
    answer = {"candidates": [{"content": {"parts": parts, "role": "model"}, "finishReason": "STOP"}]}
    return json.dumps({"key": "img", "response": answer}).encode() + b"\n" + _ONE


def _failed_without_output(here: Here) -> None:
    operation = {"name": f"batches/{BATCH}", "metadata": {"state": "BATCH_STATE_FAILED"}, "done": True}
    here.gemini.put_operation({**operation, "error": {"code": 13, "message": "internal"}}, batch_id=BATCH)


def _gone_once_it_is_whole(here: Here) -> None:
    if any(here.bucket.get(name) is not None for name in (layout.split(BATCH), layout.summary(BATCH))):
        here.gemini.expire_output(BATCH)
        here.gemini.http.delete(f"/v1beta/batches/{BATCH}")


def _bucket_lost(here: Here) -> None:
    for name, _ in list(here.bucket.list("")):
        here.bucket.delete_tree(name.partition("/")[0])


def _note_of_another_version(here: Here) -> None:
    here.bucket.put(layout.plan(BATCH), b'{"version": 7, "name": "crash"}', layout.JSON)


def _asked_to_wait(here: Here) -> None:
    _put(_ONE)(here)
    here.gemini.fault("status", f"batches/{BATCH}", value=503, retry_after="200000")


def _beside_an_unreadable_one(here: Here) -> None:
    """And never announced: `reconcile` has to find it."""
    _put(_ONE)(here)
    here.gemini.put_batch(_ONE, batch_id="neighbour", state="FAILED")
    here.bucket.put(layout.summary("neighbour"), b"", layout.JSON)
    here.redis.flushall()


_LATE = {
    "stats": {"requestCount": "3", "successfulRequestCount": "2"},
    "ended": "2026-01-01T00:00:00Z",
}

KINDS: dict[str, Kind] = {
    "one part": Kind(_put(_ONE), ("succeeded", 3)),
    "many parts": Kind(_put(_MANY), ("succeeded", 15)),
    "media": Kind(_put(_media()), ("succeeded", 4)),
    "parquet": Kind(_put(_MANY), ("succeeded", 15), outputs="objects,parquet"),
    "inline": Kind(_inline, ("succeeded", 3)),
    "failed": Kind(_put(b"", "FAILED"), ("failed", 0)),
    "cancelled": Kind(_put(_ONE, "CANCELLED"), ("cancelled", 3)),
    "revision 2": Kind(_put(b"", "FAILED"), ("succeeded", 15), _put(_MANY)),
    "source changed": Kind(_put(_MANY), ("succeeded", 18), _put(_MANY.replace(b"x", b"y") + _ONE), steps=60),
    "outputs changed": Kind(
        _put(_MANY), ("succeeded", 15), lambda _: None, steps=60, outputs_at_last="parquet"
    ),
    "gone once whole": Kind(_put(_MANY), ("succeeded", 15), meanwhile=_gone_once_it_is_whole),
    "late output": Kind(_put(b"", "CANCELLED", **_LATE), ("cancelled", 3), _put(_ONE, "CANCELLED", **_LATE)),
    "failed after cancelled": Kind(_put(_ONE, "CANCELLED"), ("cancelled", 3), _failed_without_output),
    "bucket lost": Kind(_put(_MANY), ("succeeded", 15), _bucket_lost, is_announced_again=False),
    "note of another version": Kind(_put(_MANY), ("succeeded", 15), _note_of_another_version, steps=100),
    "asked to wait": Kind(_asked_to_wait, ("succeeded", 3)),
    "beside an unreadable one": Kind(
        _put(_ONE), ("succeeded", 3), _beside_an_unreadable_one, steps=1, is_announced_again=False
    ),
}
