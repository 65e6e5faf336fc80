"""The requests of a batch: a file that is given, what was kept in the bucket, or the digests of the keys alone."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from struct import iter_unpack
from typing import Any, NamedTuple

import msgspec

from sender.lines import blocks
from workers.bucket.protocol import Bucket, copied
from workers.contract import submissions
from workers.results.json_text import is_utf8
from workers.results.keys import DIGEST_BYTES, NO_KEY, digest
from workers.results.result import key_of


class Asked(NamedTuple):
    """A request by the digest of its key, and where its line stands in the file, if there is one."""

    digest: bytes
    start: int | None = None
    length: int | None = None


def in_file(path: Path, *, ignores_case: bool) -> Iterator[Asked]:
    """The requests in a file, in their order. Raises `OSError`."""
    with path.open("rb") as file:
        for block in blocks(file):
            at = block.start
            for line in block.data.splitlines(keepends=True):
                if line.strip():
                    key = key_of(line) if is_utf8(line) else None
                    yield Asked(digest(key, ignores_case=ignores_case) if key else NO_KEY, at, len(line))
                at += len(line)


def in_digests(bucket: Bucket, submission: str) -> Iterator[Asked]:
    """The requests of a submission, as far as their digests tell. Raises `MissingObject`."""
    rest = b""
    for chunk in bucket.read(submissions.keys(submission)):
        held = rest + chunk
        whole = len(held) - len(held) % DIGEST_BYTES
        rest = held[whole:]
        for (each,) in iter_unpack(f"{DIGEST_BYTES}s", held[:whole]):
            yield Asked(each)


@contextmanager
def kept(bucket: Bucket, submission: str) -> Iterator[Path | None]:
    """A copy of the requests that were kept; None where they were not. It is gone after the block.

    Raises:
        Transient, Permanent: from the bucket.
        OSError: there is no room in the temporary folder.
    """
    name = submissions.requests(submission)
    if bucket.size(name) is None:
        yield None
        return
    with copied(bucket, name) as copy:
        yield copy


def prompt_of(line: bytes) -> str | None:
    """The texts of a request, joined by line ends; those of an OpenAI row's messages, or of an embedding's content."""
    try:
        value = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None
    asked = value.get("request", value.get("body", value))
    if not isinstance(asked, dict):
        return None
    found = [asked.get(name) for name in ("contents", "content", "messages", "input") if name in asked]
    return "\n".join(_texts(found)) or None


def request_of(line: bytes) -> Any:
    """The request in a line, as a JSON value; None where it is none."""
    try:
        value = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return value.get("request", value.get("body")) if isinstance(value, dict) else None


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)
    elif isinstance(value, dict):
        for name in ("parts", "content", "text"):
            yield from _texts(value.get(name))
