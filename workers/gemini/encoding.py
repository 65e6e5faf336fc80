"""A body that came compressed although a plain one was asked for. Pure."""

import zlib
from collections.abc import Iterator

from workers.errors import GeminiUnavailable

_PIECE = 256 << 10
# What zlib calls them. "deflate" is zlib's format by RFC 9110, and the bare one in the wild.
_GZIP, _ZLIB, _BARE = 31, 15, -15
_FORMATS = {"gzip": _GZIP, "x-gzip": _GZIP, "deflate": _ZLIB}


def is_plain(encoding: str | None) -> bool:
    """Whether a Content-Encoding leaves the bytes as they are."""
    return (encoding or "identity").lower() == "identity"


def decoded(pieces: Iterator[bytes], encoding: str) -> Iterator[bytes]:
    """The bytes that were compressed, in pieces of bounded size.

    Raises:
        GeminiUnavailable: they were not compressed like that, or are cut; what was whole until there was given.
    """
    wbits = _FORMATS.get(encoding.lower())
    if wbits is None:
        raise GeminiUnavailable(
            f"Gemini sent the result file compressed in a way that is not known: {encoding!r}."
        )
    try:
        yield from _inflated(pieces, wbits)
    except zlib.error:
        raise GeminiUnavailable("Gemini sent the result file compressed, and it can't be unpacked.") from None


def _inflated(pieces: Iterator[bytes], wbits: int) -> Iterator[bytes]:
    members, within = 0, False
    inflate = zlib.decompressobj(wbits)
    for piece in pieces:
        left = piece
        if left and not members and not within and wbits == _ZLIB and left[0] & 0x0F != zlib.DEFLATED:
            wbits = _BARE
            inflate = zlib.decompressobj(wbits)
        while left:
            if members and not within:
                # Behind the last member zeros may fill up; anything else has to be another one.
                left = left.lstrip(b"\0")
                inflate = zlib.decompressobj(wbits)
            within = bool(left)
            yield inflate.decompress(left, _PIECE)
            left = inflate.unconsumed_tail
            if inflate.eof:
                left, within = inflate.unused_data, False
                members += 1
    if within:
        yield inflate.flush()
        if not inflate.eof:
            raise zlib.error("cut")
