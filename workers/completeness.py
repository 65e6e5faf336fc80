"""Whether every request got its result, and nothing else came: keys that were submitted against keys that answered.

Both are lists of digests, in any order and too long for memory: they are parted by their first byte, and each part is
held against its counterpart. Nothing here stands in the way of a commit: what can't be told is left out.
"""

import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from struct import iter_unpack
from typing import IO, NamedTuple

from workers.bucket import layout
from workers.bucket.protocol import Bucket, MissingObject
from workers.contract import logs, submissions
from workers.contract.submissions import Pointer
from workers.parts import Piece
from workers.results.documents import read as read_entry
from workers.results.json_text import is_utf8
from workers.results.keys import DIGEST_BYTES, NO_KEY, digest
from workers.results.lines import lines
from workers.results.result import key_of

logger = logs.named("workers")

SHOWN = 20
"""How many are named."""

_TOGETHER = 1 << 18  # Digests that are held at once: some 40 MB.
_PARTS = 64
_EACH = f"{DIGEST_BYTES}s"
_WITHOUT_KEY = "(one without a key)"


class Completeness(NamedTuple):
    """How many requests have no result, how many results no request; the names of the first, as far as known."""

    missing: int
    unasked: int
    missing_keys: tuple[str, ...] = ()
    unasked_keys: tuple[str, ...] = ()


def completeness(bucket: Bucket, batch: str, parts: Iterable[Piece]) -> Completeness | None:
    """What is known of a batch that is about to be committed; None where its requests are not.

    Raises:
        Transient, Permanent: from the bucket.
    """
    pointer = Pointer.decoded(bucket.get(submissions.pointer(batch)))
    asked = submissions.keys(pointer.submission) if pointer else ""
    if pointer is None or bucket.size(asked) is None:
        return None
    answered = [layout.part_keys(batch, part.number) for part in parts]
    try:
        missing, unasked, lacking, surplus = _held_against(bucket, asked, answered)
        requests = submissions.requests(pointer.submission) if pointer.has_requests else ""
        return Completeness(
            missing,
            unasked,
            tuple(_of_requests(bucket, requests, lacking)) if requests and lacking else (),
            tuple(_of_results(bucket, batch, surplus)) if surplus else (),
        )
    except MissingObject:
        return None
    except OSError as error:
        logger.warning("completeness_unknown", batch=batch, reason=error.strerror)
        return None


def _held_against(bucket: Bucket, asked: str, answered: list[str]) -> tuple[int, int, set[bytes], set[bytes]]:
    """How many of the one have none of the other, and the other way round; and some of each."""
    count = (bucket.size(asked) or 0) + sum(bucket.size(name) or 0 for name in answered)
    missing = unasked = 0
    lacking, surplus = set[bytes](), set[bytes]()
    with ExitStack() as stack:
        parts = _PARTS if count > _TOGETHER * DIGEST_BYTES else 1
        one = _parted(stack, _digests(bucket, [asked]), parts)
        other = _parted(stack, _digests(bucket, answered), parts)
        for wanted, came in zip(one, other, strict=True):
            left = Counter(_each(wanted))
            left.subtract(_each(came))
            for each, times in left.items():
                if times > 0:
                    missing += times
                    _take(lacking, each)
                elif times < 0:
                    unasked -= times
                    _take(surplus, each)
    return missing, unasked, lacking, surplus


def _take(some: set[bytes], each: bytes) -> None:
    if len(some) < SHOWN:
        some.add(each)


def _digests(bucket: Bucket, names: Iterable[str]) -> Iterator[bytes]:
    """Whole digests, many at a time."""
    for name in names:
        rest = b""
        for chunk in bucket.read(name):
            held = rest + chunk
            whole = len(held) - len(held) % DIGEST_BYTES
            rest = held[whole:]
            yield held[:whole]


def _parted(stack: ExitStack, digests: Iterator[bytes], parts: int) -> list[IO[bytes]]:
    """Files without a name that hold the digests, by what they begin with."""
    held = _TOGETHER * DIGEST_BYTES // parts
    files = [stack.enter_context(_spool(held)) for _ in range(parts)]
    for block in digests:
        if parts == 1:
            files[0].write(block)
            continue
        sorted_in = [bytearray() for _ in range(parts)]
        for (each,) in iter_unpack(_EACH, block):
            sorted_in[each[0] % parts] += each
        for file, some in zip(files, sorted_in, strict=True):
            file.write(some)
    return files


def _spool(held: int) -> IO[bytes]:
    return tempfile.SpooledTemporaryFile(held)


def _each(file: IO[bytes]) -> Iterator[bytes]:
    file.seek(0)
    while block := file.read(DIGEST_BYTES << 12):
        for (each,) in iter_unpack(_EACH, block):
            yield each


def _of_requests(bucket: Bucket, name: str, wanted: set[bytes]) -> Iterator[str]:
    """The keys of these digests, in the order of the requests."""
    keys = (
        key_of(line.data) if line.data is not None and is_utf8(line.data) else None
        for line in lines(bucket.read(name))
        if not line.blank
    )
    return _named(bucket, keys, wanted)


def _of_results(bucket: Bucket, batch: str, wanted: set[bytes]) -> Iterator[str]:
    manifest = (line.data for line in lines(bucket.read(layout.manifest(batch))))
    return _named(bucket, (read_entry(line).key for line in manifest if line), wanted)


def _named(bucket: Bucket, keys: Iterable[str | None], wanted: set[bytes]) -> Iterator[str]:
    left = set(wanted)
    for key in keys:
        if not left:
            return
        found = digest(key, ignores_case=bucket.ignores_case) if key else NO_KEY
        if found in left:
            left.discard(found)
            yield key or _WITHOUT_KEY


def sentences(found: Completeness) -> Iterator[str]:
    """What is amiss, for people."""
    if found.missing:
        names = _listed(found.missing_keys, found.missing)
        told = f": {names}" if names else "; `verify --input` says which"
        yield f"{found.missing} requests have no result{told}."
    if found.unasked:
        names = _listed(found.unasked_keys, found.unasked)
        yield f"{found.unasked} results were not asked for{': ' if names else ''}{names}."


def _listed(names: tuple[str, ...], count: int) -> str:
    more = f", … and {count - len(names)} more" if count > len(names) else ""
    return ", ".join(names) + more if names else ""
