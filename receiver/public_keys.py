"""Google's public keys, as its JWKS (RFC 7517) holds them. Pure: bytes in, keys out."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey, RSAPublicNumbers

MAX_DOCUMENT_BYTES = 64 * 1024
MAX_KEYS = 32
MIN_RSA_BITS = 2048
# Verification time grows with the square of the size: a larger key would be a burden, not a protection.
MAX_RSA_BITS = 8192
_MAX_RSA_EXPONENT = 1 << 32
# What the decoder would take, and base64url does not have.
_NOT_BASE64URL = frozenset("+/=")


@dataclass(frozen=True, slots=True)
class PublicKeys:
    """The usable keys of a document: Ed25519 ones to be tried one by one, RSA ones by their `kid`."""

    ed25519: tuple[Ed25519PublicKey, ...] = ()
    rsa: Mapping[str, RSAPublicKey] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.ed25519 or self.rsa)

    def have_signed(self, signature: bytes, content: bytes) -> bool:
        """Whether any of the Ed25519 keys made this signature."""
        return any(_is_signed_with(key, signature, content) for key in self.ed25519)


class _Key(msgspec.Struct):
    kty: Any = None
    kid: Any = None
    use: Any = None
    alg: Any = None
    crv: Any = None
    x: Any = None
    n: Any = None
    e: Any = None


class _Document(msgspec.Struct):
    keys: list[_Key]


_documents = msgspec.json.Decoder(_Document)


def parse_jwks(document: bytes) -> PublicKeys:
    """The keys of a JWKS that this product can use; those of other kinds are passed over.

    Raises:
        ValueError: no JWKS, too large, too many keys, or none that is usable.
    """
    if len(document) > MAX_DOCUMENT_BYTES:
        raise ValueError(f"it is larger than {MAX_DOCUMENT_BYTES} bytes")
    try:
        entries = _documents.decode(document).keys
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ValueError("it is not a JWKS") from None
    if len(entries) > MAX_KEYS:
        raise ValueError(f"it holds more than {MAX_KEYS} keys")
    ed25519 = []
    rsa = {}
    for entry in entries:
        if entry.use not in (None, "sig"):
            continue
        if (entry.kty, entry.crv) == ("OKP", "Ed25519") and entry.alg in (None, "EdDSA", "Ed25519"):
            ed25519_key = _ed25519(entry)
            if ed25519_key is not None:
                ed25519.append(ed25519_key)
        elif entry.kty == "RSA" and entry.alg in (None, "RS256") and isinstance(entry.kid, str):
            rsa_key = _rsa(entry)
            if rsa_key is not None:
                rsa[entry.kid] = rsa_key
    keys = PublicKeys(tuple(ed25519), rsa)
    if not keys:
        raise ValueError("it holds no usable key")
    return keys


def decode_base64url(text: Any) -> bytes:
    """Base64url without padding (RFC 7515, section 2). Raises ValueError for anything else."""
    if not isinstance(text, str) or not _NOT_BASE64URL.isdisjoint(text):
        raise ValueError("not base64url")
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


def _ed25519(entry: _Key) -> Ed25519PublicKey | None:
    try:
        return Ed25519PublicKey.from_public_bytes(decode_base64url(entry.x))
    except (ValueError, UnsupportedAlgorithm):
        return None


def _rsa(entry: _Key) -> RSAPublicKey | None:
    try:
        modulus = int.from_bytes(decode_base64url(entry.n))
        exponent = int.from_bytes(decode_base64url(entry.e))
        if not MIN_RSA_BITS <= modulus.bit_length() <= MAX_RSA_BITS or exponent > _MAX_RSA_EXPONENT:
            return None
        return RSAPublicNumbers(exponent, modulus).public_key()
    except (ValueError, UnsupportedAlgorithm):
        return None


def _is_signed_with(key: Ed25519PublicKey, signature: bytes, content: bytes) -> bool:
    try:
        key.verify(signature, content)
    except InvalidSignature:
        return False
    return True
