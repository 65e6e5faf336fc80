"""Signatures as Gemini makes them, by code that shares nothing with the receiver's."""

import base64
import hashlib
import hmac
import json
import time
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key

SECRET_KEY = b"0123456789abcdef01234567"
SECRET = "whsec_" + base64.b64encode(SECRET_KEY).decode()
OTHER_KEY = b"another key another key "
OTHER_SECRET = "whsec_" + base64.b64encode(OTHER_KEY).decode()
AUDIENCE = "my-project"


def event(batch: str = "abc", **fields: Any) -> bytes:
    return json.dumps({"type": "batch.succeeded", "version": "v1", "data": {"id": batch}, **fields}).encode()


def v1(body: bytes, *, key: bytes = SECRET_KEY, at: float, delivery: str = "evt_1") -> str:
    content = f"{delivery}.{int(at)}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()


def v1a(body: bytes, *, key: Ed25519PrivateKey, at: float, delivery: str = "evt_1") -> str:
    return "v1a," + base64.b64encode(key.sign(f"{delivery}.{int(at)}.".encode() + body)).decode()


def headers(signature: str, *, at: float, delivery: str = "evt_1") -> dict[str, str]:
    return {"webhook-id": delivery, "webhook-timestamp": str(int(at)), "webhook-signature": signature}


def raw(named: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in named.items()]


def signed(body: bytes, *, key: bytes = SECRET_KEY, at: float | None = None) -> dict[str, str]:
    moment = time.time() if at is None else at
    return headers(v1(body, key=key, at=moment), at=moment)


def ed25519_key() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.generate()


def rsa_key(bits: int = 2048) -> RSAPrivateKey:
    return generate_private_key(65537, bits)


def token(body: bytes, key: Any, *, at: float, kid: str | None = "rsa-1", **changes: Any) -> str:
    """A JWT whose claims are the event; `changes` replace claims, None takes one out."""
    claims = {**json.loads(body), "aud": AUDIENCE, "iat": int(at), "exp": int(at) + 300, **changes}
    claims = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(claims, key, algorithm="RS256", headers={"kid": kid} if kid else None)


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def ed25519_jwk(key: Ed25519PrivateKey, **more: str) -> dict[str, str]:
    return {"kty": "OKP", "crv": "Ed25519", "x": base64url(key.public_key().public_bytes_raw()), **more}


def rsa_jwk(key: RSAPrivateKey, kid: str = "rsa-1", **more: str) -> dict[str, str]:
    numbers = key.public_key().public_numbers()
    modulus = numbers.n.to_bytes((numbers.n.bit_length() + 7) // 8)
    return {
        "kty": "RSA",
        "kid": kid,
        "alg": "RS256",
        "n": base64url(modulus),
        "e": base64url(numbers.e.to_bytes(3)),
        **more,
    }


def jwks(*keys: dict[str, str]) -> bytes:
    return json.dumps({"keys": keys}).encode()
