"""Where the elements of an answer's long arrays stand: one pass over brackets and strings, however deep. Pure."""

import re
from array import array
from collections.abc import Callable, Iterator, MutableSequence
from dataclasses import dataclass, field
from mmap import mmap

import msgspec

INLINE_FIELDS = {"inlinedresponses", "inlinedembedcontentresponses"}

_PLACES = {("response",), ("output",), ("metadata", "output")}
_DEEPEST = 4  # Levels above an array that is looked for, at most.
# A string whose end is missing goes on to the end of the text; so no byte is looked at twice.
_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?P<end>")?'
_TOKEN = re.compile(_STRING + rb"|[\[\]{}:,]", re.DOTALL)
# All that stands before the next bracket, and that; or a quote, where a string is not closed.
_TO_BRACKET = re.compile(rb'(?:[^"\[\]{}]++|"[^"\\]*+(?:\\.[^"\\]*+)*+")*+(["\[\]{}])?', re.DOTALL)
_STRING_OR_NO_NUMBER = re.compile(
    _STRING + rb"|(?P<odd>(?<![\w.+-])-?(?:NaN|Infinity)(?![\w.+-]))", re.DOTALL
)
_SPACE = re.compile(rb"[ \t\r\n]*+")

Place = tuple[str, ...]
# Where values start and end, alternating: a tuple for each would take more than small values do.
Bounds = MutableSequence[int]


@dataclass(slots=True)
class Scanned:
    """An answer taken apart.

    `outline` is the answer with the arrays that were looked for emptied; `elements` says where the elements of each
    started and ended, by its place.
    """

    outline: bytes = b""
    elements: dict[Place, Bounds] = field(default_factory=dict)


def plain(name: str) -> str:
    """A field's name without its spelling, camelCase or snake_case."""
    return name.replace("_", "").lower()


def take_apart(
    body: bytes | mmap,
    place_of: Callable[[list[str]], Place | None],
    passed: Callable[[int], None] = lambda _: None,
) -> Scanned:
    """Find arrays in JSON text, which may nest deeper than a decoder goes.

    Args:
        body: JSON that need not be valid.
        place_of: the place of an array that is looked for, by the names of the members that lead to it; else None.
        passed: is told how far the pass came.

    Raises:
        ValueError: the text is cut, or its strings or brackets don't fit together.
    """
    scanned, kept, at = Scanned(), 0, 0
    path: list[str] = []
    name, string = "", (0, 0)
    while (found := _TOKEN.search(body, at)) is not None:
        start, at = found.span()
        match body[start : start + 1]:
            case b'"':
                _check_closed(found)
                string = found.span()
            case b":":
                name = msgspec.json.decode(body[slice(*string)], type=str)
            case b",":
                name = ""
            case b"[" if len(path) <= _DEEPEST and (place := place_of([*path[1:], name])):
                scanned.elements[place], at = _elements(body, start, passed)
                scanned.outline += body[kept:start] + b"[]"
                kept = at
            case b"[" | b"{":
                path.append(name)
                name = ""
            case _ if path:
                path.pop()
            case _:
                raise ValueError("a bracket is closed that was not opened")
    if path:
        raise ValueError("a bracket is not closed")
    scanned.outline += body[kept:]
    return scanned


def pairs(bounds: Bounds) -> Iterator[tuple[int, int]]:
    """Where each value starts and ends."""
    each = iter(bounds)
    return zip(each, each, strict=True)


def with_numbers(text: bytes) -> bytes:
    """JSON in which a bare `NaN` or `Infinity`, which JSON has not and other writers have, is a zero."""
    return _STRING_OR_NO_NUMBER.sub(lambda found: b"0" if found["odd"] else found[0], text)


def operations(path: list[str]) -> Place | None:
    """The operations of a page of the list of batches."""
    return ("operations",) if path == ["operations"] else None


def inline_results(path: list[str]) -> Place | None:
    """The output whose inline results are at this path: in one field of that name, or in two."""
    for inner in (1, 2):
        place, fields = tuple(path[:-inner]), path[-inner:]
        if place in _PLACES and all(plain(each) in INLINE_FIELDS for each in fields):
            return place
    return None


def _elements(body: bytes | mmap, at: int, passed: Callable[[int], None]) -> tuple[Bounds, int]:
    """Where the elements of the array at `at` stand, and where it ends."""
    bounds: Bounds = array("Q")
    at += 1
    begin = at
    while (found := _TOKEN.search(body, at)) is not None:
        start, at = found.span()
        match body[start : start + 1]:
            case b"[" | b"{":
                at = _value_end(body, start)
            case b'"':
                _check_closed(found)
            case b"," | b"]" as mark:
                first, last = _trimmed(body, begin, start)
                if first < last:
                    bounds.extend((first, last))
                elif mark == b"," or bounds:
                    raise ValueError("an element is missing")
                if mark == b"]":
                    return bounds, at
                begin = at
                passed(at)
    raise ValueError("an array is not closed")


def _value_end(body: bytes | mmap, at: int) -> int:
    """Where the object or array that starts at `at` ends."""
    depth = 0
    while (found := _TO_BRACKET.match(body, at)) is not None:
        at = found.end()
        match found[1]:
            case b"[" | b"{":
                depth += 1
            case b"]" | b"}":
                depth -= 1
                if not depth:
                    return at
            case _:
                break
    raise ValueError("a string or a bracket is not closed")


def _trimmed(body: bytes | mmap, start: int, end: int) -> tuple[int, int]:
    space = _SPACE.match(body, start, end)
    start = space.end() if space else start
    while end > start and body[end - 1] in b" \t\r\n":
        end -= 1
    return start, end


def _check_closed(found: re.Match[bytes]) -> None:
    if found["end"] is None:
        raise ValueError("a string is not closed")
