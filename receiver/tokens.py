"""The documented form of a dynamic webhook's signature: an RS256 JWT (RFC 7519) whose claims are the event.

The algorithm is pinned, so a token can't choose it (RFC 8725, section 3.1). Keys come from the JWKS alone:
`jku`, `x5u` and `jwk` in a token's header are not looked at.
"""

import re

import jwt
import msgspec

from receiver.errors import SignatureRefused, UnknownKey
from receiver.public_keys import PublicKeys

_TOKEN = re.compile(rb"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_MAX_KID_CHARACTERS = 256

_jws = jwt.PyJWS(algorithms=["RS256"])


class _Claims(msgspec.Struct):
    aud: str | list[str]
    iat: float
    exp: float
    nbf: float | None = None


_claims = msgspec.json.Decoder(_Claims)


def is_token(entry: bytes) -> bool:
    """Whether an entry of the signature header has the shape of a JWT."""
    return _TOKEN.fullmatch(entry) is not None


def read_token(
    token: bytes, now: float, keys: PublicKeys, *, audience: str | None, tolerance_seconds: int
) -> bytes:
    """The claims of a token that is genuine, meant for us and fresh, as the JSON that was signed.

    `now` is Unix seconds; `iat` must be within `tolerance_seconds` of it.

    Raises:
        UnknownKey: no key of that `kid`.
        SignatureRefused: anything else that is wrong, or no audience to demand.
    """
    if audience is None:
        raise SignatureRefused("a token, but WEBHOOK_AUDIENCE is not set")
    try:
        kid = _jws.get_unverified_header(token).get("kid")
    except (jwt.PyJWTError, ValueError, RecursionError):
        raise SignatureRefused("malformed token") from None
    if not isinstance(kid, str) or len(kid) > _MAX_KID_CHARACTERS:
        raise SignatureRefused("a token without kid")
    key = keys.rsa.get(kid)
    if key is None:
        raise UnknownKey("a token signed with an unknown key")
    try:
        payload = _jws.decode(token, key, algorithms=["RS256"])
    except (jwt.PyJWTError, ValueError, RecursionError):
        raise SignatureRefused("a token that is not genuine") from None
    if not isinstance(payload, bytes):
        raise SignatureRefused("a token without claims")
    _check_claims(payload, now, audience, tolerance_seconds)
    return payload


def _check_claims(payload: bytes, now: float, audience: str, tolerance_seconds: int) -> None:
    try:
        claims = _claims.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise SignatureRefused("a token without aud, iat or exp") from None
    audiences = [claims.aud] if isinstance(claims.aud, str) else claims.aud
    if audience not in audiences:
        raise SignatureRefused("a token for another audience")
    if abs(now - claims.iat) > tolerance_seconds:
        raise SignatureRefused("a stale token")
    if claims.exp <= now:
        raise SignatureRefused("an expired token")
    if claims.nbf is not None and claims.nbf > now:
        raise SignatureRefused("a token from the future")
