"""Signatures of deliveries, written from the specification and not from the receiver's verification of them.

Static webhooks: Standard Webhooks `v1` (HMAC-SHA256). Dynamic ones: `v1a` (Ed25519) as observed, or an RS256
JWT as documented (python-genai #2927).
"""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Mapping
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

_PREFIX = "whsec_"
_ED25519_KEYS = 3
_SIGNING_KEY = 1  # neither the first nor the last: a verifier that tries only one of them fails.
_JWT_LIFETIME_SECONDS = 300


def new_secret() -> str:
    """`whsec_` and 32 random bytes in base64."""
    return _PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def truncated(secret: str) -> str:
    """What the API still shows of a secret after its creation."""
    return secret[: len(_PREFIX) + 4] + "..."


def _content(webhook_id: str, seconds: int, body: bytes) -> bytes:
    return f"{webhook_id}.{seconds}.".encode() + body


def sign_v1(secret: str, webhook_id: str, seconds: int, body: bytes) -> str:
    """One entry of `webhook-signature` for a static webhook; `seconds` is the attempt's Unix time."""
    key = base64.b64decode(secret.removeprefix(_PREFIX))
    mac = hmac.new(key, _content(webhook_id, seconds, body), hashlib.sha256).digest()
    return "v1," + base64.b64encode(mac).decode()


class Keys:
    """The key pairs behind `/.well-known/jwks.json`: Ed25519 ones without a `kid`, an RSA one with it."""

    def __init__(self) -> None:
        self._ed25519 = [ed25519.Ed25519PrivateKey.generate() for _ in range(_ED25519_KEYS)]
        self._rsa = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._kid = secrets.token_hex(20)

    def jwks(self) -> dict[str, Any]:
        return {"keys": [*map(_okp_jwk, self._ed25519), self._rsa_jwk()]}

    def sign_v1a(self, webhook_id: str, seconds: int, body: bytes) -> str:
        signature = self._ed25519[_SIGNING_KEY].sign(_content(webhook_id, seconds, body))
        return "v1a," + base64.b64encode(signature).decode()

    def sign_jwt(self, event: Mapping[str, Any], audience: str, webhook_id: str, seconds: int) -> str:
        """A token whose claims are the event, good for five minutes."""
        claims = {
            **event,
            "aud": audience,
            "iat": seconds,
            "exp": seconds + _JWT_LIFETIME_SECONDS,
            "jti": webhook_id,
        }
        return jwt.encode(claims, self._rsa, algorithm="RS256", headers={"kid": self._kid})

    def _rsa_jwk(self) -> dict[str, str]:
        numbers = self._rsa.public_key().public_numbers()
        return {
            "kty": "RSA",
            "alg": "RS256",
            "use": "sig",
            "kid": self._kid,
            "n": _base64url(numbers.n.to_bytes((numbers.n.bit_length() + 7) // 8)),
            "e": _base64url(numbers.e.to_bytes(3)),
        }


def _okp_jwk(key: ed25519.Ed25519PrivateKey) -> dict[str, str]:
    return {
        "kty": "OKP",
        "crv": "Ed25519",
        "x": _base64url(key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)),
    }


def _base64url(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()
