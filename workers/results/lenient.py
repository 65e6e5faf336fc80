"""Reading JSON text of which only some can be trusted to have the expected type: what does not fit counts as absent.

Every function wants JSON text that a decoder has accepted before, and none raises.
"""

import types
import typing
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Raw, Struct

_INT64_MAX = 2**63 - 1

_Counted = Annotated[int, Meta(ge=0, le=_INT64_MAX)]
Count = _Counted | None
Amount = _Counted | str | None
"""A count that is an int64 on the wire, and so comes as a string. Where that is rare, a `Count` does: see `salvage`."""


def count(value: Amount) -> int | None:
    if not isinstance(value, str):
        return value
    # 19 digits hold every int64; more would cost time without bound.
    number = int(value) if len(value) <= 19 and value.isascii() and value.isdigit() else None
    return number if number is not None and number <= _INT64_MAX else None


def first_byte(raw: Raw) -> int:
    """What kind of value it is; 0 where there is none, or null."""
    first = memoryview(raw)[0] if raw else 0
    return 0 if first == ord("n") else first


def decoded(raw: Raw | None, kind: Any) -> Any:
    """The value, if it is of this kind; else None."""
    if not raw:
        return None
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None


def fields(raw: Raw | None) -> dict[str, Raw]:
    found: dict[str, Raw] = decoded(raw, dict[str, Raw]) or {}
    return found


def items(raw: Raw | None) -> list[Raw]:
    found: list[Raw] = decoded(raw, list[Raw]) or []
    return found


def string(raw: Raw | None) -> str | None:
    found: str | None = decoded(raw, str)
    return found


def amount(raw: Raw | None) -> int | None:
    return count(decoded(raw, Amount))


def salvage(kind: Any, raw: bytes) -> Any:
    """Decode `raw` as `kind`, leaving out just those fields that don't fit it."""
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, ValueError):
        pass
    if kind == Count:
        return amount(Raw(raw))
    if isinstance(kind, types.UnionType):
        kind = typing.get_args(kind)[0]
    if typing.get_origin(kind) is list:
        (item,) = typing.get_args(kind)
        elements = decoded(Raw(raw), list[Raw])
        return None if elements is None else [salvage(item, element) for element in elements]
    if isinstance(kind, type) and issubclass(kind, Struct):
        members = fields(Raw(raw))
        return kind(
            **{
                known.name: salvage(known.type, members[known.encode_name])
                for known in msgspec.structs.fields(kind)
                if known.encode_name in members
            }
        )
    return None
