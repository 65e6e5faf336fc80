"""JSON text as bytes: what a decoder does not check, and where in it things stand (msgspec.Raw does not say).

Every function reads its bytes a fixed number of times, whatever is in them.
"""

import codecs
import re
from collections.abc import Iterator

import msgspec

MAX_DEPTH = 750
"""Levels of nesting. The decoder's own limit depends on how deep in the stack its caller is."""

_UTF8_PIECE = 2**20

_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_SPACE = re.compile(rb"[ \t\r\n]*+")
_SCALAR = re.compile(rb"[^ \t\r\n,\]}]++")
_MARK = re.compile(rb'["\[\]{}]')
_STRING_OR_REST = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_STRING_OR_SPACE = re.compile(rb'("[^"\\]*+(?:\\.[^"\\]*+)*+")|[ \t\r\n]++', re.DOTALL)
_LONE_SURROGATE = re.compile(
    rb"(?:[^\\]++|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\(?!u[dD][89a-fA-F]).)*+"
    rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}",
    re.DOTALL,
)
_BRACKETS = re.compile(rb"[\[\]{}]")
_BETWEEN_OBJECTS = re.compile(rb"}[ \t\r]*+\n[ \t\r]*+{")
_BYTE_ORDER_MARK = codecs.BOM_UTF8
_STRING_OR_NOT_FINITE = re.compile(
    rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|(-?+(?:NaN|Infinity))(?![ \t\r\n]*+:)', re.DOTALL
)


def is_utf8(line: bytes) -> bool:
    """Whether bytes are UTF-8, in which surrogates have no place."""
    if line.isascii():
        return True
    try:
        if len(line) <= _UTF8_PIECE:
            line.decode()
            return True
        # In pieces, because one emoji makes a str four times as large as its bytes.
        decode = codecs.getincrementaldecoder("utf-8")().decode
        view = memoryview(line)
        for start in range(0, len(line), _UTF8_PIECE):
            decode(view[start : start + _UTF8_PIECE])
        decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def is_too_deep(line: bytes) -> bool:
    """Whether JSON text is nested more than `MAX_DEPTH` deep. It need not be valid."""
    if len(line) <= 2 * MAX_DEPTH or line.count(b"[") + line.count(b"{") <= MAX_DEPTH:
        return False
    depth = 0
    for bracket in _BRACKETS.finditer(_STRING_OR_REST.sub(b"", line)):
        depth += 1 if bracket[0] in b"[{" else -1
        if depth > MAX_DEPTH:
            return True
    return False


def are_lines(text: bytes, objects: int) -> bool:
    """Whether so many objects, as a decoder that takes a line end for white space found them, are a line each.

    A line end between `}` and `{` can't be inside an object. So where all are, no object has part of two lines, and as
    many as there are lines means one in each.
    """
    ends = text.count(b"\n") - text.endswith(b"\n")
    return objects == ends + 1 and (
        text.count(b"}\n{") == ends or sum(1 for _ in _BETWEEN_OBJECTS.finditer(text)) == ends
    )


def has_lone_surrogate(text: bytes) -> bool:
    """Whether an escape stands for half a character. The text need not be valid JSON."""
    return _LONE_SURROGATE.match(text) is not None


def mended(text: bytes) -> bytes | None:
    """JSON out of what lenient writers take for it; None where there is nothing of the kind.

    A byte order mark is left out. A bare `NaN` or `Infinity` becomes a string, which is how protobuf's own JSON has it,
    and what Gemini writes in other places.
    """
    found = text.removeprefix(_BYTE_ORDER_MARK)
    if b"NaN" in found or b"Infinity" in found:
        found = _STRING_OR_NOT_FINITE.sub(lambda at: b'"%b"' % at[1] if at[1] else at[0], found)
    return None if len(found) == len(text) else found


def compact(text: bytes | memoryview) -> bytes:
    """JSON without white space between its tokens, otherwise as it came; however deep it nests."""
    try:
        return msgspec.json.format(text, indent=-1)
    except (RecursionError, msgspec.DecodeError):  # deep, or with a bare NaN
        return _STRING_OR_SPACE.sub(rb"\1", bytes(text))


def _end(pattern: re.Pattern[bytes], line: bytes, at: int) -> int:
    found = pattern.match(line, at)
    if found is None:
        raise ValueError("not the JSON it was said to be")
    return found.end()


def _string_end(line: bytes, at: int) -> int:
    quote = line.find(b'"', at + 1)
    # A quote that nothing escapes: found at the speed of memchr, which is what 60 MB of base64 want.
    return quote + 1 if line[quote - 1] != ord("\\") else _end(_STRING, line, at)


def value_end(line: bytes, at: int) -> int:
    """Where the value that starts at `at` ends. This and what follows want JSON that a decoder has accepted."""
    if line[at] == ord('"'):
        return _string_end(line, at)
    if line[at] not in b"[{":
        return _end(_SCALAR, line, at)
    depth = 0
    while (mark := _MARK.search(line, at)) is not None:
        at = mark.end()
        match mark[0]:
            case b'"':
                at = _string_end(line, at - 1)
            case b"[" | b"{":
                depth += 1
            case _:
                depth -= 1
                if not depth:
                    return at
    raise ValueError("not the JSON it was said to be")


def root(line: bytes) -> int:
    """Where the value of the whole text starts."""
    return _end(_SPACE, line, 0)


def members(line: bytes, at: int) -> Iterator[tuple[str, int, int, int]]:
    """The members of an object: name, start of the member, start of the value, end of both."""
    at = _end(_SPACE, line, at + 1)
    while line[at] != ord("}"):
        name_end = _string_end(line, at)
        value = _end(_SPACE, line, _end(_SPACE, line, name_end) + 1)
        end = value_end(line, value)
        yield msgspec.json.decode(line[at:name_end], type=str), at, value, end
        at = _next(line, end)


def elements(line: bytes, at: int | None) -> Iterator[int]:
    """Where the elements of the array at `at` start; none if there is no array."""
    if at is None or line[at] != ord("["):
        return
    at = _end(_SPACE, line, at + 1)
    while line[at] != ord("]"):
        yield at
        at = _next(line, value_end(line, at))


def _next(line: bytes, at: int) -> int:
    at = _end(_SPACE, line, at)
    return _end(_SPACE, line, at + 1) if line[at] == ord(",") else at


def member(line: bytes, at: int | None, name: str) -> int | None:
    """Where the value of an object's member starts: the last one of that name, None if there is none."""
    if at is None or line[at] != ord("{"):
        return None
    found = None
    for key, _, value, _ in members(line, at):
        if key == name:
            found = value
    return found
