"""Result files of any size, always the same bytes, and the documents that are made of them."""

import json
import random
from collections.abc import Iterable, Iterator
from pathlib import Path

from workers.results.result import parse, render

SMALL_LINE = 1_400
LARGE_LINE = 20_000

_WORDS = 6_000
_POOL_CHARACTERS = 1 << 20
_BLOCK = 1 << 20


def result_lines(count: int, size: int = SMALL_LINE) -> Iterator[bytes]:
    """`count` lines of a result file, `size` bytes each and a few more where a character takes several."""
    pool = _prose(_POOL_CHARACTERS)
    around = len(_line(0, "")) + 8
    length = max(size - around, 1)
    for index in range(count):
        # A prime step, so that neighbouring lines share no text and compress as real ones do.
        start = index * 7_919 % (len(pool) - length)
        yield _line(index, pool[start : start + length])


def blocks(lines: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in blocks of about 1 MiB, which pass through HTTP faster than lines."""
    held: list[bytes] = []
    size = 0
    for line in lines:
        held.append(line)
        size += len(line)
        if size >= _BLOCK:
            yield b"".join(held)
            held, size = [], 0
    yield b"".join(held)


def write_file(path: Path, lines: Iterable[bytes]) -> None:
    with path.open("wb") as file:
        file.writelines(lines)


def write_pack(path: Path, lines: Iterable[bytes]) -> None:
    """What the product makes of the lines, for those that only write: a name, and on the next line its document."""
    with path.open("wb") as pack:
        for index, line in enumerate(lines):
            rendered = render(parse(line), index, 1)
            pack.write(b"%b.json\n%b\n" % (rendered.name.encode(), rendered.document))


def read_pack(path: Path) -> list[tuple[str, bytes]]:
    pieces = path.read_bytes().split(b"\n")
    return [(name.decode(), data) for name, data in zip(pieces[0:-1:2], pieces[1::2], strict=True)]


def _line(index: int, text: str) -> bytes:
    answer = {
        "candidates": [
            {
                "content": {"parts": [{"text": text}], "role": "model"},
                "finishReason": "STOP",
                "index": 0,
                "avgLogprobs": -0.21375,
            }
        ],
        "usageMetadata": {
            "promptTokenCount": 300 + index % 97,
            "candidatesTokenCount": 250 + index % 53,
            "totalTokenCount": 550 + index % 97 + index % 53,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 300 + index % 97}],
        },
        "modelVersion": "gemini-2.5-flash",
        "responseId": f"bench{index:08d}",
    }
    line = {"key": f"request-{index:08d}", "response": answer}
    return json.dumps(line, ensure_ascii=False).encode() + b"\n"


def _prose(length: int) -> str:
    """Sentences of random words, with the quotes, line ends and accents that answers have."""
    chance = random.Random(1)
    letters = "etaoinshrdlucmfwypvbgk" + "é"
    words = ["".join(chance.choices(letters, k=chance.randint(2, 11))) for _ in range(_WORDS)]
    ends = [" "] * 12 + [", ", ". ", '." "', ".\n\n", " **", "** "]
    pieces: list[str] = []
    size = 0
    while size < length:
        piece = chance.choice(words) + chance.choice(ends)
        pieces.append(piece)
        size += len(piece)
    return "".join(pieces)
