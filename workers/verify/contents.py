"""Objects of a batch read again, many at once, and held against the digests of what they should hold."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b

from workers.bucket import layout
from workers.bucket.protocol import Bucket, MissingObject
from workers.verify.ledger import Held

_DIGEST_BYTES = 16
_WHOLE_BYTES = 1 << 20
_GROUP_OBJECTS = 1024
_GROUP_BYTES = 64 << 20


def digest(data: bytes) -> bytes:
    """What stands for an object's content in the ledger."""
    return blake2b(data, digest_size=_DIGEST_BYTES).digest()


def compared(bucket: Bucket, batch: str, objects: Iterator[Held]) -> Iterator[tuple[Held, bool]]:
    """Each object, and whether its content is the expected one: true where none is expected, or its size is wrong.

    Memory stays at some 64 MiB: objects are read in groups, of which none is larger unless it is a single object.

    Raises:
        Transient, Permanent: from the bucket.
    """

    def is_same(held: Held) -> bool:
        return held.digest is None or not held.may_be_right or _is_same(bucket, batch, held)

    with ThreadPoolExecutor(bucket.concurrency, "verify") as threads:
        for group in _groups(objects):
            # A thread of its own costs more than it brings where one is best.
            each = map if bucket.concurrency == 1 else threads.map
            yield from zip(group, each(is_same, group), strict=True)


def _groups(objects: Iterator[Held]) -> Iterator[list[Held]]:
    group: list[Held] = []
    size = 0
    for held in objects:
        more = held.size_found or 0
        if group and (size + more > _GROUP_BYTES or len(group) >= _GROUP_OBJECTS):
            yield group
            group, size = [], 0
        group.append(held)
        size += more
    yield group


def _is_same(bucket: Bucket, batch: str, held: Held) -> bool:
    name = layout.inside(batch, held.name)
    if (held.size_found or 0) <= _WHOLE_BYTES:
        return digest(bucket.get(name) or b"") == held.digest
    content = blake2b(digest_size=_DIGEST_BYTES)
    try:
        for chunk in bucket.read(name):
            content.update(chunk)
    except MissingObject:
        return False
    return content.digest() == held.digest
