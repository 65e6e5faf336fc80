"""Is a delivery from Gemini? Pure: headers, body, clock and keys in, a verdict out.

Standard Webhooks: the signed content is `{webhook-id}.{webhook-timestamp}.{raw body}`. Static webhooks sign
it with `v1,<base64 HMAC-SHA256>` (https://github.com/standard-webhooks/standard-webhooks).
"""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

from receiver.errors import SignatureRefused

Headers = Sequence[tuple[bytes, bytes]]

_PREFIX = "whsec_"
_MIN_SECRET_BYTES = 16
_MAX_SECRETS = 16

_MAX_ID_BYTES = 256
_MAX_SIGNATURE_BYTES = 16 * 1024
_MAX_ENTRIES = 16
_TIMESTAMP = re.compile(rb"[0-9]{1,12}")


@dataclass(frozen=True, slots=True)
class SigningSecret:
    """The key of a static webhook; its repr does not show it."""

    key: bytes = field(repr=False)


class Kind(Enum):
    """How a delivery was signed. A dynamic one proves only that Google sent it, not whose batch it is."""

    STATIC = "static"
    DYNAMIC = "dynamic"


@dataclass(frozen=True, slots=True)
class Keys:
    """All that a signature may be checked against."""

    secrets: tuple[SigningSecret, ...]
    tolerance_seconds: int


@dataclass(frozen=True, slots=True)
class Verified:
    """A delivery that may be believed, and the bytes that were signed as its event."""

    kind: Kind
    payload: bytes


def parse_secrets(text: str) -> tuple[SigningSecret, ...]:
    """The secrets in a text, separated by white space, in their order.

    Raises:
        ValueError: none, too many, or one that is not `whsec_` and base64. It says which, not what.
    """
    words = text.split()
    if not words:
        raise ValueError("it holds no secret")
    if len(words) > _MAX_SECRETS:
        raise ValueError(f"it holds more than {_MAX_SECRETS} secrets")
    return tuple(_parse_secret(word, number) for number, word in enumerate(words, start=1))


def verify(headers: Headers, body: bytes, now: float, keys: Keys) -> Verified:
    """Check a delivery against every key.

    `headers` are raw pairs with names in lower case, `now` is Unix seconds.

    Raises:
        SignatureRefused: missing, repeated, malformed, stale or forged, with a reason fit for a log.
    """
    entries = _one(headers, b"webhook-signature", _MAX_SIGNATURE_BYTES).split()
    if len(entries) > _MAX_ENTRIES:
        raise SignatureRefused("too many signatures")
    content = _signed_content(headers, body, now, keys.tolerance_seconds)
    signatures = [
        value for scheme, _, value in (entry.partition(b",") for entry in entries) if scheme == b"v1"
    ]
    if any(_is_signed_with(secret, content, signatures) for secret in keys.secrets):
        return Verified(Kind.STATIC, body)
    raise SignatureRefused("no signature matches")


def _parse_secret(word: str, number: int) -> SigningSecret:
    if not word.startswith(_PREFIX):
        raise ValueError(f"secret {number} does not begin with {_PREFIX}")
    try:
        key = base64.b64decode(word.removeprefix(_PREFIX), validate=True)
    except ValueError:  # binascii.Error is one; so is what a character outside ASCII raises
        raise ValueError(f"secret {number} is not base64 after {_PREFIX}") from None
    if len(key) < _MIN_SECRET_BYTES:
        raise ValueError(f"secret {number} is shorter than {_MIN_SECRET_BYTES} bytes")
    return SigningSecret(key)


def _one(headers: Headers, name: bytes, max_bytes: int) -> bytes:
    values = [value for header, value in headers if header == name]
    label = name.decode()
    if not values or not values[0]:
        raise SignatureRefused(f"no {label}")
    if len(values) > 1:
        raise SignatureRefused(f"repeated {label}")
    if len(values[0]) > max_bytes:
        raise SignatureRefused(f"oversized {label}")
    return values[0]


def _signed_content(headers: Headers, body: bytes, now: float, tolerance_seconds: int) -> bytes:
    delivery = _one(headers, b"webhook-id", _MAX_ID_BYTES)
    timestamp = _one(headers, b"webhook-timestamp", _MAX_ID_BYTES)
    if not _TIMESTAMP.fullmatch(timestamp):
        raise SignatureRefused("malformed webhook-timestamp")
    if abs(now - int(timestamp)) > tolerance_seconds:
        raise SignatureRefused("stale webhook-timestamp")
    return b"%b.%b.%b" % (delivery, timestamp, body)


def _is_signed_with(secret: SigningSecret, content: bytes, signatures: Sequence[bytes]) -> bool:
    # Compared as base64 text: there is nothing to decode that could be malformed.
    expected = binascii.b2a_base64(hmac.digest(secret.key, content, hashlib.sha256), newline=False)
    return any(hmac.compare_digest(expected, signature) for signature in signatures)
