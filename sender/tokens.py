"""About how many tokens requests take: four characters each, media at a flat rate. From samples, as an estimate can be.

Pure.
"""

import re
from typing import Any

import msgspec

CHARACTERS_A_TOKEN = 4  # "a token is equivalent to about 4 characters" (guide, Tokens)
TOKENS_A_MEDIUM = 258  # an image of up to 384 pixels (guide, Tokens)

_LINES = 4
_SAMPLE = 64 << 10
_LONG_LINE = 16 << 10  # bytes: such lines hold media
# Of data that may be megabytes only the beginning is matched; its end is the next quotation mark.
_DATA = re.compile(rb'"data"\s*:\s*"(?=[A-Za-z0-9+/=_-]{64})')
_TEXTS = {"text", "content", "input", "title", "description"}


class Tokens:
    def __init__(self) -> None:
        self._characters = 0.0
        self._media = 0

    @property
    def estimate(self) -> int:
        return round(self._characters / CHARACTERS_A_TOKEN) + self._media * TOKENS_A_MEDIUM

    def sample(self, block: bytes, lines: int) -> None:
        """Take a block of so many lines for what its first lines are like."""
        if b'"data"' in block[:_SAMPLE] or len(block) > lines * _LONG_LINE:
            block, media = _without_media(block)
            self._media += media
        looked_at = text = 0
        for line in block[:_SAMPLE].split(b"\n", _LINES)[:_LINES]:
            looked_at += len(line) + 1
            text += _characters(line)
        if lines and looked_at:
            self._characters += text * max(1.0, len(block) / looked_at)


def _without_media(block: bytes) -> tuple[bytes, int]:
    """The lines with empty texts for their media, and how many those were."""
    kept: list[bytes] = []
    at = media = 0
    while found := _DATA.search(block, at):
        kept.append(block[at : found.end()])
        at = block.find(b'"', found.end())
        media += 1
        if at < 0:
            return b"".join(kept), media
    return b"".join((*kept, block[at:])), media


def _characters(line: bytes) -> int:
    try:
        return _texts(msgspec.json.decode(line), "")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return 0


def _texts(value: Any, name: str) -> int:
    if isinstance(value, str):
        return len(value) if name in _TEXTS else 0
    if isinstance(value, dict):
        return sum(_texts(each, key) for key, each in value.items())
    if isinstance(value, list):
        return sum(_texts(each, name) for each in value)
    return 0
