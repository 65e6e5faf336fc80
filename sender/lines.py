"""A request file in blocks of whole lines, and the one form of a line that needs no second look."""

from collections.abc import Iterator
from typing import IO, Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Raw, Struct

from sender.rules import ALLOWED, DEPRECATED, GENERATION_FIELDS, Place, snake
from workers.results.result import LINE_LIMIT_BYTES

BLOCK_BYTES = 1 << 20


class LineTooLong(Exception):
    """What its number is, from 1."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Block(NamedTuple):
    """Whole lines: how many and which the first one is (from 1); where they begin and end in the file, in bytes."""

    first: int
    lines: int
    start: int
    end: int
    data: bytes


def blocks(file: IO[bytes], start: int = 0, end: int | None = None, first: int = 1) -> Iterator[Block]:
    """The lines between two bytes of a file, some at a time; the first one is line `first`. A line is held whole.

    Raises:
        OSError: the file can't be read.
        LineTooLong: there is one over the limit.
    """
    file.seek(start)
    held: list[bytes] = []
    begin, at = start, start
    while chunk := file.read(BLOCK_BYTES if end is None else min(BLOCK_BYTES, end - at)):
        at += len(chunk)
        cut = chunk.rfind(b"\n") + 1
        if not cut:
            held.append(chunk)
            if at - begin > LINE_LIMIT_BYTES:
                raise LineTooLong(first)
            continue
        data = b"".join((*held, memoryview(chunk)[:cut]))
        lines = chunk.count(b"\n")
        yield Block(first, lines, begin, begin + len(data), data)
        first, begin = first + lines, begin + len(data)
        held = [chunk[cut:]] if cut < len(chunk) else []
    if held:
        data = b"".join(held)
        yield Block(first, 1, begin, begin + len(data), data)


def numbered(block: Block) -> Iterator[tuple[int, bytes]]:
    """The lines of a block that are not blank, with their numbers."""
    for number, line in enumerate(block.data.split(b"\n"), start=block.first):
        if line.strip():
            yield number, line


def _struct(name: str, place: Place, types: dict[str, Any], required: str = "") -> type[Struct]:
    """What may stand in a place, in both spellings, and nothing else."""
    fields: list[tuple[str, Any, Any]] = []
    for field in ALLOWED[place]:
        kind = types.get(field, Raw)
        if field != required:
            names = dict.fromkeys((field, snake(field)))
            # What is absent is None also where the type is Raw: an empty Raw would be made for each.
            fields.extend((each, kind if kind is Raw else kind | None, None) for each in names)
    asked = [(required, types[required])] if required else []
    return msgspec.defstruct(name, [*asked, *fields], forbid_unknown_fields=True, gc=False)


class _Part(Struct, gc=False):
    """Media want a second look."""

    inlineData: None = None  # noqa: N815 - as Gemini spells it
    inline_data: None = None


class _Content(Struct, forbid_unknown_fields=True, gc=False):
    parts: list[_Part]
    role: Literal["user", "model", "function"] = "user"


class _Instruction(Struct, gc=False):
    parts: list[_Part]


_GENERATION_NAMES = tuple(dict.fromkeys(each for name in GENERATION_FIELDS for each in (name, snake(name))))
_GENERATION = dict[Literal[_GENERATION_NAMES], Raw]  # type: ignore[valid-type]
_REQUEST = _struct(
    "_Request",
    Place.REQUEST,
    {
        "contents": Annotated[list[_Content], msgspec.Meta(min_length=1)],
        "systemInstruction": _Instruction,
    },
    required="contents",
)
_EMBED = _struct("_Embed", Place.EMBED, {"content": _Content}, required="content")


def good_lines(*, embeddings: bool) -> msgspec.json.Decoder[Any]:
    """A decoder that takes lines with nothing wrong in them, at a gigabyte a second, and refuses most others.

    It passes what is deprecated, and what stands in a field that is known; `Configs` looks into generationConfigs.
    """
    request = _EMBED if embeddings else _REQUEST
    fields = [("key", Annotated[str, msgspec.Meta(min_length=1)]), ("request", request)]
    return msgspec.json.Decoder(msgspec.defstruct("_Line", fields, forbid_unknown_fields=True, gc=False))


_DEPRECATED_NAMES = frozenset(each for name in DEPRECATED for each in (name, snake(name)))
_MOST_CONFIGS = 1 << 12


class Configs:
    """The generationConfigs of lines that `good_lines` gave for text. Most are alike: each is looked at once."""

    def __init__(self) -> None:
        self._decode = msgspec.json.Decoder(_GENERATION).decode
        self._known: dict[bytes, dict[str, Raw] | None] = {b"": None}

    def of(self, line: Any) -> bytes:
        """As it came; empty where there is none."""
        request = line.request
        return bytes(request.generationConfig or request.generation_config or b"")

    def decoded(self, config: bytes) -> dict[str, Raw] | None:
        """Raises `msgspec.MsgspecError` for what may not stand there."""
        if config not in self._known:
            if len(self._known) > _MOST_CONFIGS:
                self._known = {b"": None}
            self._known[config] = self._decode(config)
        return self._known[config]


def deprecated_in(config: dict[str, Raw] | None) -> list[str]:
    """The deprecated fields of a generationConfig, as they are spelled there."""
    return [name for name in config or () if name in _DEPRECATED_NAMES]
