"""The batches of a run: what each holds, how it ends and how it is announced, all decided by the seed."""

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import Any

from emulator.answers import png

# Parts of 32 KiB make a dozen of what a test can afford.
PART_BYTES = 32 * 1024

_WORDS = "the same request always gets the same answer whatever is killed meanwhile".split()  # noqa: SIM905
_ODD_KEYS: tuple[Any, ...] = (
    "..", ".", ".hidden", "_index", "a/b", "../../etc/passwd", "Caf\u00e9", "\u65e5\u672c\u8a9e", "A", "a", "%2F",
    "x@2", "", " ", "line\nend", "nul\0", "long" * 80, "long" * 80 + "er", 7, 1.5, None, True,
    {"nested": ["key"]},
)  # fmt: skip
_BROKEN = (
    b"no json at all",
    b'{"key": "cut off", "response": {"candi',
    b'{"key": "neither"}',
    b'{"key": "not utf-8 \xff\xfe", "response": {}}',
    b"[1, 2, 3]",
    b"null",
)


class Telling(StrEnum):
    """How the world hears of a batch."""

    ONCE = "announced once"
    OFTEN = "announced many times"
    DYNAMIC = "announced by a dynamic webhook"
    CONTRADICTED = "announced as failed, then as succeeded"
    EARLY = "announced before its end, and again"
    HEALED = "failed first, succeeded later"
    NEVER = "never announced"


@dataclass(frozen=True, slots=True)
class Planned:
    """`body` is the result file, or the whole operation where the answer is `inline`. `state`: the one it ends in."""

    id: str
    kind: str
    telling: Telling
    body: bytes
    state: str = "SUCCEEDED"
    inline: bool = False


def plan_batches(rng: Random, count: int) -> list[Planned]:
    """`count` batches: every kind about equally often, in an order of their own."""
    kinds = [_KINDS[n % len(_KINDS)] for n in range(count)]
    rng.shuffle(kinds)
    return [kind(rng, f"batch{n:03d}-{rng.getrandbits(48):012x}") for n, kind in enumerate(kinds)]


def _line(key: Any, response: Any) -> bytes:
    return json.dumps({"key": key, "response": response}, ensure_ascii=False).encode() + b"\n"


def _failed_line(key: Any) -> bytes:
    error = {"code": 400, "message": "The prompt asked for an error.", "status": "INVALID_ARGUMENT"}
    return json.dumps({"key": key, "error": error}).encode() + b"\n"


def _answer(rng: Random, words: int = 12, *more: Any) -> dict[str, Any]:
    parts = [{"text": " ".join(rng.choices(_WORDS, k=words))}, *more]
    usage = {"promptTokenCount": rng.randrange(50), "totalTokenCount": 50 + words}
    return {
        "candidates": [{"content": {"parts": parts, "role": "model"}, "finishReason": "STOP", "index": 0}],
        "usageMetadata": usage,
    }


def _embedding(rng: Random) -> dict[str, Any]:
    return {"tokenCount": "3", "embedding": {"values": [round(rng.uniform(-1, 1), 6) for _ in range(64)]}}


def _texts(rng: Random, count: int, words: int = 12) -> list[bytes]:
    return [_line(f"request-{n}", _answer(rng, words)) for n in range(count)]


def _telling(rng: Random) -> Telling:
    return rng.choice(list(Telling))


def _told_at_its_end(rng: Random) -> Telling:
    return rng.choice((Telling.ONCE, Telling.OFTEN, Telling.DYNAMIC, Telling.NEVER))


def _of_one_part(rng: Random, name: str) -> Planned:
    return Planned(name, "one part", _telling(rng), b"".join(_texts(rng, rng.randint(1, 30))))


def _of_many_parts(rng: Random, name: str) -> Planned:
    return Planned(name, "many parts", _telling(rng), b"".join(_texts(rng, rng.randint(150, 400), 120)))


def _with_failing_lines(rng: Random, name: str) -> Planned:
    lines = [*_texts(rng, 15), *(_failed_line(f"failing-{n}") for n in range(10))]
    rng.shuffle(lines)
    return Planned(name, "failing lines", _telling(rng), b"".join(lines))


def _with_invalid_lines(rng: Random, name: str) -> Planned:
    lines = [*_texts(rng, 15), *(line + b"\n" for line in _BROKEN), b"\n", b"  \n"]
    rng.shuffle(lines)
    return Planned(name, "invalid lines", _telling(rng), b"".join(lines))


def _with_repeated_keys(rng: Random, name: str) -> Planned:
    lines = [_line(f"key-{rng.randrange(60)}", _answer(rng, 100)) for _ in range(120)]
    return Planned(name, "repeated keys", _telling(rng), b"".join(lines))


def _with_awkward_keys(rng: Random, name: str) -> Planned:
    lines = [_line(key, _answer(rng)) for key in _ODD_KEYS]
    rng.shuffle(lines)
    return Planned(name, "awkward keys", _telling(rng), b"".join(lines).removesuffix(b"\n"))


def _with_images(rng: Random, name: str) -> Planned:
    lines = []
    for n in range(20):
        data = base64.b64encode(png(f"{name}-{n}")).decode()
        medium = {"inlineData": {"mimeType": "image/png", "data": data}}
        lines.append(_line(f"image-{n}", _answer(rng, 5, *[medium] * rng.randint(1, 3))))
    return Planned(name, "images", _telling(rng), b"".join(lines))


def _of_embeddings(rng: Random, name: str) -> Planned:
    lines = [_line(f"document-{n}", _embedding(rng)) for n in range(60)]
    return Planned(name, "embeddings", _telling(rng), b"".join(lines))


def _inline(rng: Random, name: str) -> Planned:
    embedding = rng.random() < 0.5
    field = "inlinedEmbedContentResponses" if embedding else "inlinedResponses"
    answers = [
        {"metadata": {"key": f"inline-{n}"}, "response": _embedding(rng) if embedding else _answer(rng, 100)}
        for n in range(rng.choice((3, 80)))
    ]
    operation = {
        "name": f"batches/{name}",
        "metadata": {"state": "BATCH_STATE_SUCCEEDED", "displayName": "inline"},
        "done": True,
        "response": {field: {"inlinedResponses": answers}},
    }
    body = json.dumps(operation).encode()
    return Planned(name, "inline", _told_at_its_end(rng), body, inline=True)


def _without_success(rng: Random, name: str) -> Planned:
    state = rng.choice(("FAILED", "EXPIRED", "CANCELLED"))
    return Planned(name, f"{state.lower()}, no results", _told_at_its_end(rng), b"", state=state)


def _cancelled_with_results(rng: Random, name: str) -> Planned:
    body = b"".join(_texts(rng, 40, 120))
    return Planned(name, "cancelled, with results", _told_at_its_end(rng), body, state="CANCELLED")


_KINDS: tuple[Callable[[Random, str], Planned], ...] = (
    _of_many_parts,
    _of_one_part,
    _of_many_parts,
    _with_failing_lines,
    _with_invalid_lines,
    _with_repeated_keys,
    _of_many_parts,
    _with_awkward_keys,
    _with_images,
    _of_embeddings,
    _inline,
    _without_success,
    _cancelled_with_results,
)
