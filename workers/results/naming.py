"""From a request's key to the name of its objects: injective, and never outside the batch's folder."""

import hashlib
from urllib.parse import quote_from_bytes

MAX_ENCODED = 200
"""Characters of an encoded key: with `@<occurrence>` and `.json` it stays under a file name's 255 bytes."""

_KEPT = 160
_DOT = ord(".")
_SAFE = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"


def output_name(key: str | None, index: int, occurrence: int) -> str:
    """The name of the result with this key, without folder and suffix.

    The key is percent-encoded, with a leading `.` or `_` and a trailing `.` encoded too: Azure and Windows drop the
    latter, so that keys which differ in it would share a folder. A long one is cut and ends in `@` and a part of its
    SHA-256. `occurrence` counts the results with the same key from 1. Without a key, or with an empty one, the name
    is `@<index>`. `@` never comes out of the encoding, so the forms can't meet.

    Raises:
        UnicodeEncodeError: the key holds a lone surrogate. No parsed line has such a key.
    """
    if not key:
        return f"@{index}"
    raw = key.encode()
    is_safe = (
        len(raw) <= MAX_ENCODED and raw[0] not in b"._" and raw[-1] != _DOT and not raw.translate(None, _SAFE)
    )
    name = key if is_safe else _encoded(raw)
    return name if occurrence == 1 else f"{name}@{occurrence}"


def _encoded(raw: bytes) -> str:
    name = quote_from_bytes(raw, safe="")
    if name[0] in "._":
        name = f"%{raw[0]:02X}{name[1:]}"
    if name[-1] == ".":
        name = f"{name[:-1]}%2E"
    if len(name) <= MAX_ENCODED:
        return name
    kept = name[:_KEPT]
    cut = kept.rfind("%", _KEPT - 2)
    if cut >= 0:
        kept = kept[:cut]
    return f"{kept}@{hashlib.sha256(raw).hexdigest()[:32]}"
