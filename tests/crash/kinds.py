"""A small batch of each kind, put to a local Gemini: what there is before a worker begins."""

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass

from tests.support.deployment import result_line
from tests.support.gemini import Gemini

BATCH = "crash"
PART_BYTES = 1500

_ONE = (
    result_line("a", "one") + result_line("b/c", "two") + b'{"key":"d","error":{"code":3,"message":"no"}}\n'
)
_MANY = b"".join(result_line(f"k{n % 13}", "x" * 200) for n in range(15))


@dataclass(frozen=True, slots=True)
class Kind:
    """`begin` puts the batch as it is first, `change` what becomes of it halfway, where anything does.

    Where there is a change, workers have done all they could before it, or `steps` calls where that is a number.
    """

    begin: Callable[[Gemini], None]
    change: Callable[[Gemini], None] | None = None
    steps: int | None = None
    outputs: str = "objects"


def _put(lines: bytes, state: str = "SUCCEEDED") -> Callable[[Gemini], None]:
    def put(gemini: Gemini) -> None:
        gemini.put_batch(lines, batch_id=BATCH, state=state)

    return put


def _inline(gemini: Gemini) -> None:
    answers = [json.loads(line) for line in _ONE.splitlines()]
    elements = [{"metadata": {"key": each.pop("key")}, **each} for each in answers]
    gemini.put_operation(
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


KINDS: dict[str, Kind] = {
    "one part": Kind(_put(_ONE)),
    "many parts": Kind(_put(_MANY)),
    "media": Kind(_put(_media())),
    "parquet": Kind(_put(_MANY), outputs="objects,parquet"),
    "inline": Kind(_inline),
    "failed": Kind(_put(b"", "FAILED")),
    "cancelled": Kind(_put(_ONE, "CANCELLED")),
    "revision 2": Kind(_put(b"", "FAILED"), _put(_MANY)),
    "source changed": Kind(_put(_MANY), _put(_MANY.replace(b"x", b"y") + _ONE), steps=60),
}
