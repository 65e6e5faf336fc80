"""Images and other inline data of a response: decoded, and cut out of its bytes at exactly their place."""

import binascii
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec
from msgspec import Struct

from workers.results.json_text import elements, member, members, root, value_end

# What a browser would run (HTML, SVG, XML, scripts) is not in it, on purpose.
EXTENSIONS = {
    "application/json": "json",
    "application/pdf": "pdf",
    "audio/aac": "aac",
    "audio/flac": "flac",
    "audio/l16": "pcm",
    "audio/mp4": "m4a",
    "audio/mpeg": "mp3",
    "audio/ogg": "ogg",
    "audio/pcm": "pcm",
    "audio/wav": "wav",
    "audio/webm": "weba",
    "image/avif": "avif",
    "image/bmp": "bmp",
    "image/gif": "gif",
    "image/heic": "heic",
    "image/heif": "heif",
    "image/jpeg": "jpg",
    "image/png": "png",
    "image/tiff": "tiff",
    "image/webp": "webp",
    "text/csv": "csv",
    "text/markdown": "md",
    "text/plain": "txt",
    "video/mp4": "mp4",
    "video/quicktime": "mov",
    "video/webm": "webm",
}
OPAQUE = "application/octet-stream"

_ALIASES = {
    "audio/mp3": "audio/mpeg",
    "audio/vnd.wave": "audio/wav",
    "audio/wave": "audio/wav",
    "audio/x-aac": "audio/aac",
    "audio/x-flac": "audio/flac",
    "audio/x-m4a": "audio/mp4",
    "audio/x-wav": "audio/wav",
    "image/jpg": "image/jpeg",
    "image/x-ms-bmp": "image/bmp",
}

# First bytes after which nothing else is meant (https://mimesniff.spec.whatwg.org, the formats' own
# specifications). MPEG audio without an ID3 tag and ADTS start with 12 set bits: too little to contradict by.
_MAGIC = (
    (re.compile(rb"\x89PNG\r\n\x1a\n"), ("image/png",)),
    (re.compile(rb"\xff\xd8\xff"), ("image/jpeg",)),
    (re.compile(rb"GIF8[79]a"), ("image/gif",)),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), ("image/webp",)),
    (re.compile(rb"RIFF....WAVE", re.DOTALL), ("audio/wav",)),
    (re.compile(rb"....ftypavi[fs]", re.DOTALL), ("image/avif", "image/heif")),
    (re.compile(rb"....ftyp(?:hei[cxms]|hev[cx])", re.DOTALL), ("image/heic", "image/heif")),
    (re.compile(rb"....ftypm(?:if|sf)1", re.DOTALL), ("image/heif", "image/heic", "image/avif")),
    (re.compile(rb"....ftypqt  ", re.DOTALL), ("video/quicktime", "video/mp4")),
    (re.compile(rb"....ftypM4[AB] ", re.DOTALL), ("audio/mp4", "video/mp4")),
    (re.compile(rb"....ftyp", re.DOTALL), ("video/mp4", "audio/mp4", "video/quicktime")),
    (re.compile(rb"ID3"), ("audio/mpeg", "audio/aac")),
    (re.compile(rb"OggS\x00"), ("audio/ogg", "video/ogg", "application/ogg", "audio/opus")),
    (re.compile(rb"fLaC"), ("audio/flac",)),
    (re.compile(rb"\x1aE\xdf\xa3"), ("video/webm", "audio/webm", "video/x-matroska", "audio/x-matroska")),
    (re.compile(rb"(?:II\*\x00|MM\x00\*)"), ("image/tiff",)),
    (re.compile(rb"%PDF-"), ("application/pdf",)),
    (re.compile(rb"PK\x03\x04"), ("application/zip",)),
    (re.compile(rb"\x1f\x8b\x08"), ("application/gzip",)),
    (
        re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:<!doctype\s+html|<html|<head|<body|<script)", re.IGNORECASE),
        ("text/html",),
    ),
    (re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml[^>]*>\s*)?<svg", re.IGNORECASE), ("image/svg+xml",)),
    (re.compile(rb"(?:\xef\xbb\xbf)?\s*<\?xml"), ("text/xml", "application/xml")),
)
_ALWAYS_MAGIC = frozenset(kind for _, kinds in _MAGIC for kind in kinds) - {"audio/mpeg", "audio/aac"}
_SNIFFED_BYTES = 512

_URL_SAFE = bytes.maketrans(b"-_", b"+/")
# Serializers for the web write "=" as \u003d, and may write "/" as \/. Decoding a whole string as JSON, or by the
# pattern, would hold it twice more.
_USUAL_ESCAPES = ((rb"\/", b"/"), (rb"\u003d", b"="), (rb"\u003D", b"="))
_ESCAPES = re.compile(rb"(?:\\u[0-9a-fA-F]{4}|\\.)++")  # In runs, as two may be one character.


class Medium(Struct, frozen=True, gc=False):
    """One decoded medium.

    `object_name` is relative to the batch's folder. `mime_type` may be given to a store as Content-Type: it
    is from the allow-list, else `application/octet-stream`.
    """

    object_name: str
    mime_type: str
    data: bytes


class MediaEntry(Struct, frozen=True, gc=False, omit_defaults=True):
    """What document and manifest say of a medium: `mime_type` as declared, `bytes` once decoded.

    `thought`: it is no part of the answer, but of the way to it.
    """

    object: str | None
    mime_type: str | None
    bytes: int | None = None
    sniffed_mime_type: str | None = None
    error: str | None = None
    thought: bool = False


class Inline(NamedTuple):
    """A medium as it stands in a response: its data, or a sentence that says why there is none."""

    mime_type: str | None
    data: bytes | str
    is_thought: bool = False


class Kept(NamedTuple):
    """What media become: to be written, to be told, and the name of each in the order in which they stood."""

    media: list[Medium]
    entries: list[MediaEntry]
    names: list[str | None]


class Extracted(Struct, frozen=True, gc=False):
    """The media of a response, and the response without them: pieces to be written one after the other."""

    media: list[Medium]
    entries: list[MediaEntry]
    pieces: list[memoryview | bytes]


def extract(line: bytes, name: str) -> Extracted:
    """Take the inline data out of the response of a result line, which a decoder has accepted before.

    What can't be decoded stays where it is; its entry says why. No byte around the media is changed.
    """
    view = memoryview(line)
    start = member(line, root(line), "response")
    if start is None:
        raise ValueError("there is no response")
    end = value_end(line, start)
    found: list[Inline] = []
    places: list[tuple[int, int]] = []
    for place, value, place_end, is_thought in _inline_data(line, start):
        fields = {key: view[at:to] for key, _, at, to in members(line, value)}
        declared = _string(fields.get("mimeType", fields.get("mime_type")))
        found.append(Inline(declared, _decoded(fields.get("data")), is_thought))
        places.append((place, place_end))
    kept = keep(found, name)
    pieces: list[memoryview | bytes] = []
    done = start
    for inline, object_name, (place, place_end) in zip(found, kept.names, places, strict=True):
        if object_name is not None:
            file_data = {"mimeType": inline.mime_type or OPAQUE, "fileUri": object_name}
            pieces += (view[done:place], b'"fileData":', msgspec.json.encode(file_data))
            done = place_end
    pieces.append(view[done:end])
    return Extracted(kept.media, kept.entries, pieces)


def keep(found: Sequence[Inline], name: str) -> Kept:
    """Number the media of a result in their order, those of the answer first, and say what becomes of them."""
    media: list[Medium] = []
    entries: list[MediaEntry] = []
    names: list[str | None] = [None] * len(found)
    for at in sorted(range(len(found)), key=lambda at: found[at].is_thought):
        declared, data, is_thought = found[at]
        if isinstance(data, str):
            entries.append(MediaEntry(None, declared, error=data, thought=is_thought))
            continue
        kind = canonical(declared)
        object_name = f"media/{name}/{len(entries)}.{EXTENSIONS.get(kind, 'bin')}"
        told = MediaEntry(object_name, declared, len(data), contradiction(kind, data), thought=is_thought)
        entries.append(told)
        media.append(Medium(object_name, kind if kind in EXTENSIONS else OPAQUE, data))
        names[at] = object_name
    return Kept(media, entries, names)


def canonical(mime_type: str | None) -> str:
    """A MIME type without parameters, in lower case, under its usual name; empty where there is none."""
    essence = (mime_type or "").partition(";")[0].strip().lower()
    return _ALIASES.get(essence, essence)


def contradiction(kind: str, data: bytes) -> str | None:
    """The MIME type that the data's first bytes tell, if it can't be `kind` (as `canonical` gives it)."""
    head = data[:_SNIFFED_BYTES]
    for magic, kinds in _MAGIC:
        if magic.match(head):
            return None if kind in kinds else kinds[0]
    return OPAQUE if kind in _ALWAYS_MAGIC else None


def sniffed(data: bytes) -> str | None:
    """The MIME type that the data's first bytes tell."""
    return contradiction("", data)


def from_base64(digits: memoryview) -> bytes | str:
    """The bytes of base64 that stands in a JSON string, or a sentence that says what is wrong with it.

    Both alphabets are accepted, and missing padding. The usual form is decoded where it stands, uncopied.
    """
    if len(digits) % 4 == 0 and digits[-3:].tobytes() != b"===":
        try:
            return binascii.a2b_base64(digits, strict_mode=True)
        except binascii.Error:
            pass
    text = bytes(digits)
    if b"\\\\" not in text:  # Else a backslash that is escaped itself could be taken for one that escapes.
        for escape, character in _USUAL_ESCAPES:
            text = text.replace(escape, character)
    if b"\\" in text:
        text = _ESCAPES.sub(lambda run: msgspec.json.decode(b'"%b"' % run[0], type=str).encode(), text)
    if not text.isascii():
        return "data is not base64: it holds other letters than ASCII"
    text = text.translate(_URL_SAFE)
    # Strict as it is called, binascii lets too much padding pass.
    padding = text[-3:].count(b"=")
    if padding and (len(text) % 4 or padding == 3):
        return "data is not base64: its padding is wrong"
    try:
        return binascii.a2b_base64(text + b"=" * (-len(text) % 4), strict_mode=True)
    except binascii.Error as error:
        return f"data is not base64: {error}"


def _decoded(token: memoryview | None) -> bytes | str:
    """The same for what should be a JSON string of base64."""
    if token is None:
        return "there is no data"
    if token[0] != ord('"'):
        return "data is not a string"
    return from_base64(token[1:-1])


def _inline_data(line: bytes, response: int) -> Iterator[tuple[int, int, int, bool]]:
    """Each inline object of candidates' parts: where its member starts, its value starts, and both end.

    And whether its part is a thought.
    """
    for candidate in elements(line, member(line, response, "candidates")):
        parts = member(line, member(line, candidate, "content"), "parts")
        for part in elements(line, parts):
            if line[part] != ord("{"):
                continue
            fields = {key: (start, value, end) for key, start, value, end in members(line, part)}
            found = fields.get("inlineData") or fields.get("inline_data")
            if found is not None and line[found[1]] == ord("{"):
                _, value, end = fields.get("thought", (0, 0, 0))
                yield *found, line[value:end] == b"true"


def _string(token: memoryview | None) -> str | None:
    if token is None or token[0] != ord('"'):
        return None
    return msgspec.json.decode(token, type=str)
