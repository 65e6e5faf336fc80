"""What processing keeps in `_work/` for itself. A note that can't be read is not there: what it said is done again."""

from typing import TypeVar

import msgspec

from workers.bucket import layout
from workers.bucket.protocol import Bucket

_T = TypeVar("_T")


def read(bucket: Bucket, name: str, decoder: "msgspec.json.Decoder[_T]") -> _T | None:
    """The note of this name; None where there is none, or none that this version understands."""
    return decoded(bucket.get(name), decoder)


def decoded(blob: bytes | None, decoder: "msgspec.json.Decoder[_T]") -> _T | None:
    """A note from its bytes, as `read` gives it."""
    try:
        return decoder.decode(blob) if blob is not None else None
    except (msgspec.MsgspecError, RecursionError):
        return None


def write(bucket: Bucket, name: str, note: msgspec.Struct) -> None:
    """Write a note. What it says of other objects has to be durable by then."""
    bucket.note(name, msgspec.json.encode(note), layout.JSON)
