"""What a bucket can do, found out by trying, with a few objects below `_work/_probe/` that are gone at the end."""

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress

from workers.bucket import layout
from workers.bucket.access import ENDPOINTS
from workers.bucket.opening import open_bucket
from workers.bucket.protocol import Bucket, BucketRefused, NoCredentials
from workers.errors import BucketUnavailable, Permanent, SettingsError, WorkerError

# The closest first.
_ERRORS: dict[str, type[WorkerError]] = {
    "setting": SettingsError,
    "refused": BucketRefused,
    "permanent": Permanent,
    "away": BucketUnavailable,
    "other": WorkerError,
}


def probe(bucket: Bucket) -> tuple[str, ...]:
    """Try everything once that processing needs.

    Not in a process that is going to fork: see `probe_apart`.

    Returns:
        What the bucket lacks and is worked around, and settings that are not heeded: a sentence each.

    Raises:
        SettingsError: it can't work like this; names the variable to correct.
        Permanent: it can't work like this for another reason.
        BucketUnavailable: it is away for now.
    """
    folder = f"{layout.WORK}/_probe/{secrets.token_hex(8)}"
    try:
        _try(bucket, folder)
    except NoCredentials as error:
        raise SettingsError(str(error)) from None
    finally:
        with suppress(WorkerError):
            bucket.delete_tree(folder)
    return tuple(bucket.remarks)


def probe_apart(url: str, env: Mapping[str, str]) -> tuple[str, ...]:
    """`probe` of the bucket at `url`, in a process of its own: obstore's runtime does not survive a fork.

    Raises:
        WorkerError: as `open_bucket` and `probe` do.
    """
    command = [sys.executable, "-P", "-m", __name__, url]  # -P: no module of the working directory
    ended = subprocess.run(command, env=dict(env), stdout=subprocess.PIPE, check=False)
    try:
        kind, *said = json.loads(ended.stdout)
    except ValueError:
        raise BucketUnavailable(f"The look at {url} ended before it was done.") from None
    if kind in _ERRORS:
        raise _ERRORS[kind](said[0])
    return tuple(said)


def _say(url: str) -> list[str]:
    """What `probe_apart` reads: the kind of outcome and its sentences."""
    try:
        return ["remarks", *probe(open_bucket(url, os.environ))]
    except WorkerError as error:
        return [next(name for name, kind in _ERRORS.items() if isinstance(error, kind)), str(error)]


def _try(bucket: Bucket, folder: str) -> None:
    first, second = b"the first", b"the second one"
    # With a % in it, as names of outputs have: some stores decode it once too often.
    name, once, copied = (f"{folder}/{name}.json" for name in ("a%2Fb", "once", "copied"))
    bucket.put(name, first, layout.JSON)
    if bucket.get(name) != first or bucket.size(name) != len(first):
        raise SettingsError(f"{bucket.url} does not give back what was stored there: {_check(bucket)}.")
    if (name, len(first)) not in bucket.list(folder):
        raise SettingsError(f"{bucket.url} does not list what was stored there: {_check(bucket)}.")
    if not bucket.create(once, first, layout.JSON) or bucket.create(once, second, layout.JSON):
        raise BucketRefused(f"{bucket.url} does not create an object once: use another store.")
    if not bucket.replace(once, first, second, layout.JSON) or bucket.get(once) != second:
        raise BucketRefused(f"{bucket.url} does not replace an object: use another store.")
    bucket.creates_once(once)
    bucket.copy(name, copied, layout.JSON)
    if bucket.get(copied) != first:
        raise BucketRefused(f"{bucket.url} does not copy what is asked for: use another store.")
    for _ in range(2):  # What is missing already must be no error.
        bucket.delete([name, once, copied])
    left = [each for each, _ in bucket.list(folder)]
    if left:
        raise BucketRefused(
            f"{bucket.url} does not delete what it says it deleted: check retention rules and locks."
        )


def _check(bucket: Bucket) -> str:
    endpoint = ENDPOINTS.get(bucket.url.partition(":")[0])
    return (
        f"check STORAGE_URL, and that {endpoint} ends before the bucket" if endpoint else "check STORAGE_URL"
    )


if __name__ == "__main__":
    print(json.dumps(_say(sys.argv[1])))  # noqa: T201 - to the process that asked
