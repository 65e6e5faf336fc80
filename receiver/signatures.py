"""Is a delivery from Gemini? Pure: headers, body, clock and keys in, a verdict out.

Standard Webhooks: the signed content is `{webhook-id}.{webhook-timestamp}.{raw body}`. Static webhooks sign
it with `v1,<base64 HMAC-SHA256>` (https://github.com/standard-webhooks/standard-webhooks). Dynamic webhooks were
seen to sign it with `v1a,<base64 Ed25519>` and no key id (python-genai #2927); their documentation puts a JWT
into `webhook-signature` instead.
"""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum

from receiver.errors import SignatureRefused, UnknownKey
from receiver.events import Event, parse_event
from receiver.public_keys import PublicKeys
from receiver.tokens import is_token, read_token

Headers = Sequence[tuple[bytes, bytes]]

_PREFIX = "whsec_"
_MAX_SECRETS = 16

_MAX_ID_BYTES = 256
_MAX_SIGNATURE_BYTES = 16 * 1024
_MAX_ENTRIES = 16
# Each costs one verification a key, and a rotation needs two.
_MAX_ED25519_ENTRIES = 4
_ED25519_BYTES = 64
_TIMESTAMP = re.compile(rb"[0-9]{1,12}")
# Entries are separated by spaces. A proxy that takes the header for one of HTTP's lists puts commas between them, and a
# space after every comma (RFC 9110, section 5.6.1); base64 has neither.
_ENTRY = re.compile(rb"(?:^|(?<=[\s,]))(v[0-9]+[a-z]?),\s*([^\s,]+)")


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
    """All that a signature may be checked against. `public` is None where dynamic webhooks are off."""

    secrets: tuple[SigningSecret, ...]
    tolerance_seconds: int
    public: PublicKeys | None = None
    audience: str | None = None


@dataclass(frozen=True, slots=True)
class Verified:
    """A delivery that may be believed, and the bytes that were signed as its event."""

    kind: Kind
    payload: bytes


Verify = Callable[[Headers, bytes, float], Awaitable[Verified]]
"""How a delivery is checked: raw headers, body, Unix seconds. Raises `Refusal`."""


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
        UnknownKey: a dynamic signature that none of the public keys explains; newer keys might.
        SignatureRefused: missing, repeated, malformed, stale or forged, with a reason fit for a log.
    """
    given = _joined(headers, b"webhook-signature", _MAX_SIGNATURE_BYTES)
    if is_token(given):
        return _verify_token(given, headers, body, now, keys)
    entries = _ENTRY.findall(given)
    if len(entries) > _MAX_ENTRIES:
        raise SignatureRefused("too many signatures")
    content = _signed_content(headers, body, now, keys.tolerance_seconds)
    signatures = _of_scheme(b"v1", entries)
    if any(_is_signed_with(secret, content, signatures) for secret in keys.secrets):
        return Verified(Kind.STATIC, body)
    if keys.public is not None:
        dynamic = _ed25519_signatures(entries)
        if any(keys.public.have_signed(signature, content) for signature in dynamic):
            return Verified(Kind.DYNAMIC, body)
        if dynamic:
            raise UnknownKey("no public key matches")
    raise SignatureRefused("no signature matches")


def _parse_secret(word: str, number: int) -> SigningSecret:
    if not word.startswith(_PREFIX):
        raise ValueError(f"secret {number} does not begin with {_PREFIX}")
    try:
        key = base64.b64decode(word.removeprefix(_PREFIX), validate=True)
    except ValueError:  # binascii.Error is one; so is what a character outside ASCII raises
        raise ValueError(f"secret {number} is not base64 after {_PREFIX}") from None
    if not key:
        raise ValueError(f"secret {number} is empty after {_PREFIX}")
    return SigningSecret(key)


def _one(headers: Headers, name: bytes, max_bytes: int) -> bytes:
    if sum(header == name for header, _ in headers) > 1:
        raise SignatureRefused(f"repeated {name.decode()}")
    return _joined(headers, name, max_bytes)


def _joined(headers: Headers, name: bytes, max_bytes: int) -> bytes:
    """A header's value; of a header in several lines, all of them."""
    value = b" ".join(value for header, value in headers if header == name)
    if len(value) > max_bytes:
        raise SignatureRefused(f"oversized {name.decode()}")
    value = value.strip()
    if not value:
        raise SignatureRefused(f"no {name.decode()}")
    return value


def _signed_content(headers: Headers, body: bytes, now: float, tolerance_seconds: int) -> bytes:
    delivery = _one(headers, b"webhook-id", _MAX_ID_BYTES)
    timestamp = _fresh_timestamp(headers, now, tolerance_seconds)
    return b"%b.%b.%b" % (delivery, timestamp, body)


def _fresh_timestamp(headers: Headers, now: float, tolerance_seconds: int) -> bytes:
    timestamp = _one(headers, b"webhook-timestamp", _MAX_ID_BYTES)
    if not _TIMESTAMP.fullmatch(timestamp):
        raise SignatureRefused("malformed webhook-timestamp")
    age = now - int(timestamp)
    if abs(age) > tolerance_seconds:
        side = "behind" if age > 0 else "ahead of"
        raise SignatureRefused(f"stale webhook-timestamp, {_about(abs(age))} {side} our clock")
    return timestamp


def _about(seconds: float) -> str:
    """Coarse, so that refusals for one cause count as one."""
    for unit, size in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size:.0f} {unit}"
    return f"{seconds:.0f} seconds"


def _of_scheme(scheme: bytes, entries: Sequence[tuple[bytes, bytes]]) -> list[bytes]:
    return [value for name, value in entries if name == scheme]


def _is_signed_with(secret: SigningSecret, content: bytes, signatures: Sequence[bytes]) -> bool:
    # Compared as base64 text: there is nothing to decode that could be malformed.
    expected = binascii.b2a_base64(hmac.digest(secret.key, content, hashlib.sha256), newline=False)
    return any(hmac.compare_digest(expected, signature) for signature in signatures)


def _ed25519_signatures(entries: Sequence[tuple[bytes, bytes]]) -> list[bytes]:
    signatures = []
    for text in _of_scheme(b"v1a", entries)[:_MAX_ED25519_ENTRIES]:
        try:
            signature = base64.b64decode(text, validate=True)
        except ValueError:
            continue
        if len(signature) == _ED25519_BYTES:
            signatures.append(signature)
    return signatures


def _verify_token(token: bytes, headers: Headers, body: bytes, now: float, keys: Keys) -> Verified:
    if keys.public is None:
        raise SignatureRefused("a token, but dynamic webhooks are off")
    if any(name == b"webhook-timestamp" for name, _ in headers):
        _fresh_timestamp(headers, now, keys.tolerance_seconds)
    claims = read_token(
        token, now, keys.public, audience=keys.audience, tolerance_seconds=keys.tolerance_seconds
    )
    # The body is not signed. It may be missing or repeat the claims, never contradict them.
    if body and not _says_the_same(body, claims):
        raise SignatureRefused("a body that says something else than its token")
    return Verified(Kind.DYNAMIC, claims)


def _says_the_same(body: bytes, claims: bytes) -> bool:
    said, signed = parse_event(body), parse_event(claims)
    if isinstance(said, Event) and isinstance(signed, Event):
        return (said.type, said.batch) == (signed.type, signed.batch)
    return said == signed
