"""A deployment that has worked for some days: batches in every state, deliveries, workers; in Redis and in a bucket."""

import json
import time
from typing import Any

from redis import Redis

from tests.support.deployment import result_line
from workers.contract import Queues
from workers.contract.history import BatchState, Delivered, History, Names, deliver, step

HOSTILE_KEY = "<script>alert('key')</script>\u202egnp.exe\x1b[31m"
HOSTILE_TEXT = "<img src=x onerror=alert('text')>\x1b]0;owned\x07 \u202eright to left"

_MODELS = ("models/gemini-3.6-flash", "models/gemini-3.8-flash", "models/gemini-3.1-pro")
_NAMES = ("nightly-summaries", "catalogue-images", "support-tickets", "embeddings-docs", "eval-run")


class Seeds:
    """Writes what workers and the receiver would write."""

    def __init__(self, connection: "Redis", prefix: str = "batch-receiver") -> None:
        self.connection: Any = connection
        self.history = History(connection, prefix)
        self.queues = Queues(connection, prefix)
        self.names = Names(prefix)

    def committed(
        self, batch: str, *, ago: float = 3600.0, total: int = 100, failed: int = 0, **more: Any
    ) -> None:
        """A batch that was announced so many seconds ago, and committed soon after."""
        at = time.time() - ago
        took = 4.0 + total / 2000
        fields = {
            "trigger": "webhook",
            "model": _MODELS[total % len(_MODELS)],
            "display_name": _NAMES[total % len(_NAMES)],
            "counts": json.dumps(
                {"total": total, "succeeded": total - failed, "failed": failed, "invalid": 0}
            ),
            "usage": json.dumps(
                {"prompt_tokens": total * 80, "output_tokens": total * 210, "total_tokens": total * 290}
            ),
            "raw_bytes": total * 1400,
            "revision": 1,
            "committed_at": at + took,
            "ended_at": at - 2,
            "created_at": at - 3000,
            "warnings": 0,
            "parts": 1 + total // 12000,
            "parts_done": 1 + total // 12000,
            "keys": total,
            **more,
        }
        steps = (
            step("announced", at, by="webhook", outcome="accepted", webhook_id=f"msg_{batch}"),
            step("looked", at + 0.2, state="succeeded"),
            step("fetched", at + took - 1, parts=fields["parts"], keys=total),
            step("committed", at + took, total=total, revision=1),
        )
        ref = self.names.ref(batch)
        self.history.note(ref, BatchState.ANNOUNCED, at=at)
        self.history.note(
            ref,
            BatchState.SUCCEEDED,
            at=at + took,
            steps=steps,
            fields=fields,
            warned=bool(fields["warnings"]),
            display_name=str(fields["display_name"]),
        )

    def in_state(self, batch: str, state: BatchState, *, ago: float = 60.0, **fields: Any) -> None:
        at = time.time() - ago
        name = str(fields.get("display_name", "nightly-summaries"))
        known = {"trigger": "webhook", "display_name": name, "model": _MODELS[0], **fields}
        told = step("announced", at, by="webhook", outcome="accepted", webhook_id=f"msg_{batch}")
        self.history.note(self.names.ref(batch), state, at=at, steps=(told,), fields=known, display_name=name)

    def delivered(self, outcome: Delivered, **fields: Any) -> None:
        with self.connection.pipeline() as pipe:
            deliver(pipe, self.names, outcome, fields)
            pipe.execute()

    def failed(self, batch: str, reason: str, *, ago: float = 7200.0, **fields: Any) -> None:
        self.in_state(batch, BatchState.GIVEN_UP, ago=ago, reason=reason, **fields)

    def everything(self) -> None:
        """Some of all."""
        for number in range(64):
            self.committed(
                f"b{number:02d}k7x2m9q4w8e1r5",
                ago=1800.0 + 5400 * number,
                total=(137 * (number + 3) ** 2) % 48_000 + 40,
                failed=number * 3 if number % 5 == 2 else 0,
                trigger="reconcile" if number % 9 == 4 else "webhook",
                warnings=2 if number % 11 == 3 else 0,
                cost=json.dumps({"amount": round(0.31 + number * 0.83, 2), "currency": "USD"}),
            )
        self.in_state("r1v8c3z6n0p2l5", BatchState.IN_PARTS, ago=41, display_name="catalogue-images", parts=18,
            parts_done=11, keys=36_210, raw_bytes=290_000_000, expires_at=time.time() + 47 * 3600)  # fmt: skip
        self.in_state("a4f0s7d2h9j5g1", BatchState.ANNOUNCED, ago=3, display_name="eval-run",
            expires_at=time.time() + 47.9 * 3600, expected=1200)  # fmt: skip
        self.in_state("w6t3y8u1i5o0m2", BatchState.WAITING, ago=900, display_name="support-tickets",
            reason="Gemini's rate limit is reached (429): try again later.", next_try=time.time() + 240,
            expires_at=time.time() + 31 * 3600)  # fmt: skip
        self.failed(
            "f2q9w4e7r1t6y3",
            "The result file is gone: Gemini has deleted it.",
            display_name="embeddings-docs",
        )
        self.failed("f8u3i0o5p2a7s4", "s3://results: the credentials may not write there (403): check the policy.",
            display_name="catalogue-images", ago=9400)  # fmt: skip
        for number in range(30):
            self.delivered(Delivered.ACCEPTED, batch=f"b{number:02d}k7x2m9q4w8e1r5", trigger="webhook",
                type="batch.succeeded", webhook_id=f"msg_{number:04d}")  # fmt: skip
        self.delivered(Delivered.REFUSED, reason="no signature is ours", count=14, type="")
        self.delivered(Delivered.IGNORED, reason="a test event", type="webhook.ping", count=1)
        self.delivered(Delivered.DUPLICATE, batch="b03k7x2m9q4w8e1r5", trigger="dynamic", type="batch.succeeded",
            webhook_id="msg_0003")  # fmt: skip
        self.history.act("admin", "replay", batch="b03k7x2m9q4w8e1r5", outcome="accepted")
        self.history.act(
            "mira@example.com", "bulk-replay", batches=12, bulk="5f0c1a2b3c4d", filter="state=given-up"
        )


def lines(count: int = 120) -> list[bytes]:
    """Result lines of many kinds, a hostile one among them."""
    made = [result_line(f"request-{number:04d}", f"Answer number {number}.") for number in range(count)]
    made.append(
        json.dumps({"key": "failing", "error": {"code": 13, "message": "<b>internal</b>"}}).encode() + b"\n"
    )
    made.append(result_line(HOSTILE_KEY, HOSTILE_TEXT))
    made.append(result_line("long", "x" * 100_000))
    made.append(_image())
    made.append(_thinking())
    return made


def _image() -> bytes:
    pixel = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    parts = [{"inlineData": {"mimeType": "image/png", "data": pixel}}, {"text": "A pixel."}]
    answer = {"candidates": [{"content": {"parts": parts}, "finishReason": "STOP"}]}
    return json.dumps({"key": "image", "response": answer}).encode() + b"\n"


def _thinking() -> bytes:
    parts = [{"text": "First I think.", "thought": True}, {"text": "Then I answer."}]
    answer = {"candidates": [{"content": {"parts": parts}, "finishReason": "MAX_TOKENS"}]}
    return json.dumps({"key": "thinking", "response": answer}).encode() + b"\n"
