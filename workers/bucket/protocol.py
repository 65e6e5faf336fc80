"""The bucket as the rest of the package sees it: a folder or an object store behind one small protocol.

`open_bucket` is the only place that looks at the scheme of `STORAGE_URL`; `workers.bucket.folder` and
`workers.bucket.objectstore` translate their own errors into the tree of `workers.errors`:

    Transient
    ├── BucketUnavailable   the store or the disk did not answer as it should
    │   └── Misdirected         as no store in trouble answers: at a start, a setting to correct
    │       └── NoCredentials   none in the environment, and the machine's cloud gives none, now
    └── MissingObject       gone between being seen and being read: look again
    Refused
    └── BucketRefused       credentials, permissions, another region, or no such bucket
    Permanent
    ├── DiskFull            no room left, a quota or a size limit reached
    └── NameTooLong         a key whose name the store or the file system does not take
"""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

from workers.errors import BucketUnavailable, Permanent, Refused, Transient


class Misdirected(BucketUnavailable):
    pass


class NoCredentials(Misdirected):
    pass


class MissingObject(Transient):
    pass


class DiskFull(Permanent):
    pass


class BucketRefused(Refused):
    pass


class NameTooLong(Permanent):
    pass


class Writer(Protocol):
    def write(self, data: bytes, /) -> None: ...


class OutputSink(Protocol):
    """Takes many small objects below one folder. Used by one thread, as a context manager."""

    def put(self, name: str, data: bytes, content_type: str) -> None:
        """Store `data` as `name`, relative to the sink's folder; may return before it is stored.

        Raises:
            WorkerError: this put, or an earlier one, failed; nothing put from now on is stored.
        """


class Bucket(Protocol):
    """Objects under names of `/`-joined segments, exactly as given: nothing is encoded on the way.

    Every method raises `ValueError` for a name with an empty, `.` or `..` segment, a leading or trailing
    slash or a NUL, `BucketUnavailable` for what may heal, `BucketRefused` for what somebody has to correct, and
    a `Permanent` error for what stays.
    An instance may be shared by threads and carried over a fork.
    """

    @property
    def url(self) -> str:
        """Where it is, for people: no credentials."""

    @property
    def concurrency(self) -> int:
        """How many small objects are best written, or read, at once."""

    @property
    def ignores_case(self) -> bool:
        """Whether `a` and `A` are the same object, as in a folder on some file systems."""

    @property
    def remarks(self) -> Sequence[str]:
        """What it lacks and is done in another way, and settings that are not heeded, as far as known by now.

        A sentence each, for people.
        """

    def get(self, name: str) -> bytes | None:
        """The whole object, or None where there is none."""

    def size(self, name: str) -> int | None:
        """Its size in bytes, or None where there is none."""

    def read(self, name: str, chunk: int = 256 << 10, start: int = 0) -> Iterator[bytes]:
        """The object from byte `start` on, in pieces of at most `chunk` bytes.

        Raises:
            MissingObject: there is none, when the first piece is asked for.
        """

    def put(self, name: str, data: bytes, content_type: str) -> None:
        """Store or replace an object: atomic, and durable when it returns."""

    def create(self, name: str, data: bytes, content_type: str) -> bool:
        """Like `put`, but only where there is no such object yet: whether it was then seen to hold `data`.

        After a False there is another one: look at it. Of several at once one succeeds, if their bytes differ: add a
        time or a random number where they would not. Where the store keeps nobody out (see `creates_once`), two at the
        very same moment may both succeed.

        Raises:
            BucketUnavailable: there is still none, whatever the store said.
        """

    def replace(self, name: str, old: bytes, new: bytes, content_type: str) -> bool:
        """Like `put` with `new`, but only where the object holds `old`: whether it was then seen to hold `new`.

        After a False it holds something else, or is missing: look at it. Of several at once one succeeds, as in
        `create`.

        Raises:
            BucketUnavailable: it still holds `old`, whatever the store said.
        """

    def creates_once(self, name: str) -> bool:
        """Whether the store itself keeps a second creation out; tried on the existing object `name`, which may change.

        What is found out serves later calls of `create` and `replace`, and is added to `remarks`.
        """

    def copy(self, source: str, target: str, content_type: str) -> None:
        """Like `put` with the bytes of `source`, an object of that type; where the store can, they do not pass here.

        Raises:
            MissingObject: there is no `source`.
        """

    def note(self, name: str, data: bytes, content_type: str) -> None:
        """Like `put`, but a power cut may undo it, or leave it empty: for what can be found out again."""

    def group(self) -> "AbstractContextManager[Bucket]":
        """This bucket, where all that is stored becomes durable together, when the block ends without an error."""

    def writer(self, name: str, content_type: str) -> AbstractContextManager[Writer]:
        """Like `put`, in pieces and flat memory: the object appears when the block ends without an error."""

    def list(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Name and size in bytes of every object below the folder `prefix` ("" for all), in any order."""

    def newest(self, prefix: str, limit: int) -> tuple[Sequence[str], int]:
        """The names of those that were written last below the folder `prefix`, newest first; how many there are."""

    def delete(self, names: Iterable[str]) -> None:
        """Delete objects; those that are missing already are fine."""

    def delete_tree(self, prefix: str) -> None:
        """Delete everything below the folder `prefix`; a folder's directories too, and what killed writers left."""

    def sweep_staging(self) -> int:
        """Delete what killed writers left behind, and return how much; `delete_tree` does it too."""

    def outputs(self, folder: str) -> AbstractContextManager[OutputSink]:
        """A sink for objects below `folder`: durable when the block ends without an error."""


def join(bucket: Bucket, sources: Iterable[str], target: str, content_type: str) -> None:
    """Store `target` with the bytes of several objects, one after the other.

    Raises:
        MissingObject: one of them is missing; nothing was stored.
    """
    with bucket.writer(target, content_type) as writer:
        for source in sources:
            for chunk in bucket.read(source):
                writer.write(chunk)


@contextmanager
def copied(bucket: Bucket, name: str) -> Iterator[Path]:
    """A copy of an object on this machine; it is gone after the block.

    Raises:
        MissingObject, Transient, Permanent: from the bucket.
        OSError: there is no room in the temporary folder.
    """
    with tempfile.TemporaryDirectory(prefix="batch-receiver-", ignore_cleanup_errors=True) as folder:
        copy = Path(folder, "copy")
        with copy.open("wb") as file:
            file.writelines(bucket.read(name))
        yield copy


def check_name(name: str) -> str:
    """`name`, if it can be an object's.

    Raises:
        ValueError: it is empty, has an empty, `.` or `..` segment, a slash at an end, or a NUL.
    """
    path = f"/{name}/"
    if "//" in path or "/./" in path or "/../" in path or "\0" in path:
        raise ValueError(f"not an object's name: {name!r}")
    return name


def check_prefix(prefix: str) -> str:
    """`prefix` as a folder's name without its trailing slash; "" stays as it is.

    Raises:
        ValueError: it cannot be a folder's name.
    """
    folder = prefix.removesuffix("/")
    return check_name(folder) if prefix else ""
