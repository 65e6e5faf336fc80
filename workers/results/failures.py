"""Whether a line says that its request failed, wherever and in whatever form it does.

Gemini writes an `error`, or a `status` object in its place; the batches of Vertex a `status` of "" or a sentence beside
a `response`; the OpenAI-compatible layer a `status_code` and an `error` inside the response. Fields of the request line
come back with the answer, so that a `status` beside an answer may also be somebody's own word.
"""

from contextlib import suppress
from enum import Enum, auto

from msgspec import Raw

from workers.results.lenient import decoded, fields, first_byte, string

_FAILED = 400
_LONGEST_NUMBER = 20


class Response(Enum):
    """What a line has to answer with."""

    ABSENT = auto()
    EMPTY = auto()
    THERE = auto()


def response_of(raw: Raw) -> Response:
    if not first_byte(raw):
        return Response.ABSENT
    return Response.THERE if _holds_something(raw) else Response.EMPTY


def failure_of(error: Raw, status: Raw, inner: Raw, response: Response) -> Raw | None:
    """The JSON text that says that the request failed; None if nothing does.

    Args:
        error: the line's; empty where there is none.
        status: the line's; empty where there is none.
        inner: what the response says itself, from `workers.results.openai`; empty where it says nothing.
        response: what there is to answer with. Without any, every error but null is one.
    """
    if says(error):
        return error
    if first_byte(status) and _status_says(status, response):
        return status
    if inner:
        return inner
    return error if response is Response.ABSENT and first_byte(error) else None


def says(error: Raw) -> bool:
    """Whether it is more than null, false, zero or empty."""
    match chr(first_byte(error)):
        case "\0" | "f":
            return False
        case '"':
            return bool((string(error) or "").strip())
        case "{" | "[":
            return _holds_something(error)
        case "t":
            return True
    return number(error) != 0


def number(raw: Raw | None) -> float | None:
    """A number, also one in a string; None for anything else."""
    found: float | None = decoded(raw, float)
    text = string(raw) or ""
    if found is None and text and len(text) <= _LONGEST_NUMBER:
        with suppress(ValueError):
            found = float(text)
    return found


def is_failing(status_code: Raw | None) -> bool:
    """Whether this is an HTTP status of 400 or more."""
    found = number(status_code)
    return found is not None and found >= _FAILED


def _status_says(status: Raw, response: Response) -> bool:
    kind = chr(first_byte(status))
    words = (string(status) or "").strip()
    if response is Response.ABSENT:
        return kind != '"' or bool(words)
    if kind == '"':
        # Beside an answer a single word may be the user's own, come back from the request.
        return len(words.split()) > 1 if response is Response.THERE else words.upper() not in {"", "OK"}
    if kind == "{":
        members = fields(status)
        if first_byte(code := members.get("code", Raw())):
            return not _is_fine(number(code))
        return bool(string(members.get("message"))) or (response is Response.EMPTY and bool(members))
    return is_failing(status)


def _is_fine(code: float | None) -> bool:
    """Whether it is gRPC's 0, or one of HTTP's 200s."""
    return code is not None and (code == 0 or 200 <= code < 300)


def _holds_something(raw: Raw) -> bool:
    """Whether an object or an array has a member, a string a character; other values hold something."""
    text = memoryview(raw)
    if text[0] == ord('"'):
        return len(text) > 2
    return text[0] not in b"[{" or (len(text) > 2 and bool(bytes(text[1:-1]).strip()))
