"""What a verified notification says: an event about a batch, or nothing for us."""

from dataclasses import dataclass
from typing import Any

import msgspec

from workers.contract import parse_batch_id

# Far more than a label or two; a job's record in Redis should stay small.
MAX_USER_METADATA_BYTES = 16 * 1024

_MAX_SHOWN_CHARACTERS = 64


@dataclass(frozen=True, slots=True)
class Event:
    """A batch has ended. `user_metadata` is JSON text as it came: the sender's own words, never trusted."""

    type: str
    batch: str
    user_metadata: str | None = None
    metadata_dropped: bool = False


@dataclass(frozen=True, slots=True)
class Ignored:
    """Nothing for us. `is_error` where it should have been usable."""

    reason: str
    is_error: bool


class _Envelope(msgspec.Struct):
    type: Any = None
    data: msgspec.Raw = msgspec.Raw()
    user_metadata: msgspec.Raw = msgspec.Raw()


class _Data(msgspec.Struct):
    id: Any = None


_envelopes = msgspec.json.Decoder(_Envelope)
_datas = msgspec.json.Decoder(_Data)


def parse_event(payload: bytes) -> Event | Ignored:
    """Read a notification. Never raises: whatever the bytes are, they are an event or ignored.

    Of `data` only `id` is read. `output_file_uri` and `file_name` may point anywhere and are not followed.
    """
    try:
        payload.decode()  # msgspec lets bytes pass that are not UTF-8 where nobody reads them
        envelope = _envelopes.decode(payload)
        if not isinstance(envelope.type, str) or not envelope.type:
            return Ignored("no usable type", is_error=True)
        if not envelope.type.startswith("batch."):
            return Ignored(f"type {envelope.type[:_MAX_SHOWN_CHARACTERS]}", is_error=False)
        batch = parse_batch_id(_datas.decode(envelope.data).id)
    except UnicodeDecodeError:
        return Ignored("not UTF-8", is_error=True)
    except msgspec.ValidationError:
        return Ignored("not the shape of an event", is_error=True)
    except msgspec.DecodeError:
        return Ignored("no JSON", is_error=True)
    except RecursionError:
        return Ignored("nested too deep", is_error=True)
    if batch is None:
        return Ignored("no usable data.id", is_error=True)
    metadata = bytes(envelope.user_metadata)
    if metadata in (b"", b"null"):
        return Event(envelope.type, batch)
    if len(metadata) > MAX_USER_METADATA_BYTES:
        return Event(envelope.type, batch, metadata_dropped=True)
    return Event(envelope.type, batch, metadata.decode())
