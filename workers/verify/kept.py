"""The requests that were kept in the bucket when a batch was submitted, brought here."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from workers.bucket.protocol import Bucket, copied
from workers.contract import submissions
from workers.contract.submissions import Pointer


@contextmanager
def kept(bucket: Bucket, batch: str, given: Path | None) -> Iterator[Path | None]:
    """The file of requests that is `given`, or else a copy of what was kept, if it was; gone after the block.

    Raises:
        Transient, Permanent: from the bucket.
        OSError: there is no room in the temporary folder.
    """
    pointer = Pointer.decoded(bucket.get(submissions.pointer(batch))) if given is None else None
    name = submissions.requests(pointer.submission) if pointer and pointer.has_requests else ""
    if not name or bucket.size(name) is None:
        yield given
        return
    with copied(bucket, name) as copy:
        yield copy
