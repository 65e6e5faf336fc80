"""What all of Gemini's JSON has in common: two spellings of a field, times, pages."""

import ast
import base64
import binascii
import json
import re
import secrets
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

from starlette.requests import Request

from emulator.errors import ApiError, bad_request

T = TypeVar("T")

INLINE_LIMIT_BYTES = 20 * 1000 * 1000
_ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"


def new_id(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def now() -> datetime:
    return datetime.now(UTC)


def timestamp(moment: datetime) -> str:
    """RFC 3339 in UTC with nine digits of a second, as Google's own times come."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z")


def moment(text: str) -> datetime:
    """From RFC 3339. Raises ValueError for what is none, or has no time zone."""
    found = datetime.fromisoformat(text)
    if found.tzinfo is None:
        raise ValueError("no time zone")
    return found


def field(message: Mapping[str, Any], camel: str, default: Any = None) -> Any:
    """The field `camel` of a message, under that name or in snake_case: protobuf's JSON accepts both."""
    if camel in message:
        return message[camel]
    return message.get(re.sub(r"[A-Z]", lambda letter: "_" + letter[0].lower(), camel), default)


def submessage(message: Mapping[str, Any], camel: str) -> dict[str, Any]:
    """The message at the field `camel`, an empty one where there is none.

    Raises:
        ApiError: 400, what stands there is no object.
    """
    value = field(message, camel)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise bad_request(f"Invalid value at '{camel}': an object is expected.")
    return value


def parse_object(text: str) -> dict[str, Any]:
    """A JSON object; also one in single quotes, as the Batch page's own curl commands send it.

    Raises:
        ApiError: 400, it is neither.
    """
    try:
        value = json.loads(text or "{}")
    except ValueError:
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            raise bad_request("Invalid JSON payload received.") from None
    if not isinstance(value, dict):
        raise bad_request("Invalid JSON payload received: an object is expected.")
    return value


async def read_object(request: Request) -> dict[str, Any]:
    """The request's body as an object, of at most 20 MB.

    Raises:
        ApiError: 400, too large or no object.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > INLINE_LIMIT_BYTES:
            raise ApiError(400, "Request payload size exceeds the limit: 20000000 bytes.")
    try:
        return parse_object(body.decode())
    except UnicodeDecodeError:
        raise bad_request("Invalid JSON payload received: it is not UTF-8.") from None


def page(
    items: Iterable[T],
    position: Callable[[T], list[Any]],
    *,
    size: str | None,
    token: str | None,
    default: int,
) -> tuple[list[T], str | None]:
    """One page of `items`, highest position first, and the token of the next page if there is one.

    A token names the last item shown, so that what is created meanwhile neither repeats nor hides an item.

    Raises:
        ApiError: 400, the size or the token can't be used.
    """
    ordered = sorted(items, key=position, reverse=True)
    try:
        limit = min(int(size or 0) or default, 1000)
        last = json.loads(base64.urlsafe_b64decode(token)) if token else None
        rest = [item for item in ordered if last is None or position(item) < last]
    except (ValueError, TypeError, binascii.Error):
        raise bad_request("Page size or page token is invalid.") from None
    if limit < 0:
        raise bad_request("Page size must not be negative.")
    shown = rest[:limit]
    if len(rest) <= limit:
        return shown, None
    return shown, base64.urlsafe_b64encode(json.dumps(position(shown[-1])).encode()).decode()
