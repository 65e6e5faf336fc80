"""Images and other inline data of a response: decoded, and cut out of its bytes at exactly their place."""

import binascii
import re
from collections.abc import Iterator

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


class Medium(Struct, frozen=True, gc=False):
    """One decoded medium.

    `object_name` is relative to the batch's folder. `mime_type` may be given to a store as Content-Type: it
    is from the allow-list, else `application/octet-stream`.
    """

    object_name: str
    mime_type: str
    data: bytes


class MediaEntry(Struct, frozen=True, gc=False, omit_defaults=True):
    """What document and manifest say of a medium: `mime_type` as declared, `bytes` once decoded."""

    object: str | None
    mime_type: str | None
    bytes: int | None = None
    sniffed_mime_type: str | None = None
    error: str | None = None


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
    done, end = start, value_end(line, start)
    media: list[Medium] = []
    entries: list[MediaEntry] = []
    pieces: list[memoryview | bytes] = []
    for place, value, place_end in _inline_data(line, start):
        fields = {key: view[at:to] for key, _, at, to in members(line, value)}
        declared = _string(fields.get("mimeType", fields.get("mime_type")))
        data = _decoded(fields.get("data"))
        if isinstance(data, str):
            entries.append(MediaEntry(None, declared, error=data))
            continue
        kind = canonical(declared)
        object_name = f"media/{name}/{len(entries)}.{EXTENSIONS.get(kind, 'bin')}"
        entries.append(MediaEntry(object_name, declared, len(data), contradiction(kind, data)))
        media.append(Medium(object_name, kind if kind in EXTENSIONS else OPAQUE, data))
        file_data = {"mimeType": declared or OPAQUE, "fileUri": object_name}
        pieces += (view[done:place], b'"fileData":', msgspec.json.encode(file_data))
        done = place_end
    pieces.append(view[done:end])
    return Extracted(media, entries, pieces)


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


def _decoded(token: memoryview | None) -> bytes | str:
    """The bytes of a base64 string given as a JSON token, or a sentence that says what is wrong with it.

    Both alphabets are accepted, and missing padding. The usual form is decoded where it stands, uncopied.
    """
    if token is None:
        return "there is no data"
    if token[0] != ord('"'):
        return "data is not a string"
    digits = token[1:-1]
    if len(digits) % 4 == 0 and digits[-3:].tobytes() != b"===":
        try:
            return binascii.a2b_base64(digits, strict_mode=True)
        except binascii.Error:
            pass
    try:
        # Serializers for the web write "=" as \u003d, and may write "/" as \/.
        text = msgspec.json.decode(token, type=str).encode("ascii").translate(_URL_SAFE)
        # Strict as it is called, binascii lets too much padding pass.
        padding = text[-3:].count(b"=")
        if padding and (len(text) % 4 or padding == 3):
            return "data is not base64: its padding is wrong"
        return binascii.a2b_base64(text + b"=" * (-len(text) % 4), strict_mode=True)
    except UnicodeEncodeError:
        return "data is not base64: it holds other letters than ASCII"
    except binascii.Error as error:
        return f"data is not base64: {error}"


def _inline_data(line: bytes, response: int) -> Iterator[tuple[int, int, int]]:
    """Each inline object of candidates' parts: where its member starts, its value starts, and both end."""
    for candidate in elements(line, member(line, response, "candidates")):
        parts = member(line, member(line, candidate, "content"), "parts")
        for part in elements(line, parts):
            if line[part] != ord("{"):
                continue
            fields = {key: (start, value, end) for key, start, value, end in members(line, part)}
            found = fields.get("inlineData") or fields.get("inline_data")
            if found is not None and line[found[1]] == ord("{"):
                yield found


def _string(token: memoryview | None) -> str | None:
    if token is None or token[0] != ord('"'):
        return None
    return msgspec.json.decode(token, type=str)
