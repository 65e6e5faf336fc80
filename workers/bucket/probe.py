"""What a bucket can do, found out by trying, with a few objects below `_work/_probe/` that are gone at the end.

What a killed process left of them is for a sweep: see `layout.trial`.
"""

import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress

from workers.bucket import layout
from workers.bucket.access import ENDPOINTS
from workers.bucket.opening import open_bucket
from workers.bucket.protocol import Bucket, BucketRefused, Misdirected
from workers.errors import BucketUnavailable, Permanent, Refused, SettingsError, WorkerError

PROBE_SECONDS = 60.0
"""As long as one request may be tried again, which is what a good bucket needs for all of it."""

# The closest first.
_ERRORS: dict[str, type[WorkerError]] = {
    "setting": SettingsError,
    "refused": BucketRefused,
    "permanent": Permanent,
}


def probe(bucket: Bucket, folder: str | None = None) -> tuple[str, ...]:
    """Try everything once that processing needs.

    Not in a process that is going to fork: see `probe_apart`.

    Args:
        bucket: is not changed in the end.
        folder: where, if it matters; what an earlier try left there is removed too.

    Returns:
        What the bucket lacks and is worked around, and settings that are not heeded: a sentence each.

    Raises:
        SettingsError: it can't work like this; names the variable to correct.
        BucketRefused, Permanent: it can't work like this for another reason.
        BucketUnavailable: it is away for now.
    """
    folder = folder or layout.trial(time.time())
    is_there = True
    try:
        _try(bucket, f"{folder}/{secrets.token_hex(4)}")
    except Misdirected as error:
        is_there = False
        raise SettingsError(str(error)) from None
    finally:
        if is_there:
            with suppress(WorkerError):
                bucket.delete_tree(folder)
    return tuple(bucket.remarks)


def look(bucket: Bucket) -> None:
    """Try everything once that reading needs, and change nothing.

    Raises:
        WorkerError: as `probe` does.
    """
    folder = layout.trial(time.time())
    try:
        list(bucket.list(folder))
        bucket.get(f"{folder}/none")
    except Misdirected as error:
        raise SettingsError(str(error)) from None


def try_bucket(
    url: str, env: Mapping[str, str], *, reading: bool = False, folder: str | None = None
) -> tuple[str, ...]:
    """What every process does with the bucket at `url` before it depends on it. Arguments and result of `probe_apart`.

    What it is refused for has to be seen twice: answers that are cut look like much.

    Raises:
        SettingsError: it can't be used like this; the sentence names what to correct.
        BucketUnavailable: it is away for now.
    """
    folder = folder or layout.trial(time.time())
    try:
        open_bucket(url, env, make=not reading)  # Most of what is wrong with settings shows without asking.
        try:
            return probe_apart(url, env, reading=reading, folder=folder)
        except (Permanent, Refused):
            return probe_apart(url, env, reading=reading, folder=folder)
    except (Permanent, Refused) as error:
        raise SettingsError(str(error)) from None


def probe_apart(
    url: str,
    env: Mapping[str, str],
    *,
    reading: bool = False,
    folder: str | None = None,
    seconds: float = PROBE_SECONDS,
) -> tuple[str, ...]:
    """`probe` of the bucket at `url`, in a process of its own: obstore's runtime does not survive a fork.

    Args:
        url: the value of STORAGE_URL.
        env: its cloud's variables.
        reading: only `look` at it.
        folder: as for `probe`; give the same to all tries of one process, or each leaves its own behind.
        seconds: how long it may take, in all.

    Returns:
        As `probe` does; nothing for `reading`.

    Raises:
        WorkerError: as `open_bucket` and `probe` do.
    """
    # -P: no module of the working directory
    command = [sys.executable, "-P", "-m", __name__, url, "read" if reading else "use", folder or ""]
    try:
        ended = subprocess.run(command, env=dict(env), capture_output=True, check=False, timeout=seconds)
    except subprocess.TimeoutExpired:
        raise BucketUnavailable(f"{url} did not answer within {seconds:g} seconds.") from None
    try:
        kind, *said = json.loads(ended.stdout)
    except ValueError:
        sys.stderr.write(
            ended.stderr.decode(errors="replace")
        )  # Else it holds what obstore says before a panic.
        raise BucketUnavailable(f"The look at {url} ended before it was done.") from None
    if kind != "remarks":
        raise _ERRORS.get(kind, BucketUnavailable)(said[0])
    return tuple(said)


def _say(url: str, purpose: str, folder: str) -> list[str]:
    """What `probe_apart` reads: the kind of outcome and its sentences."""
    try:
        if purpose == "read":
            look(open_bucket(url, os.environ, make=False))
            return ["remarks"]
        return ["remarks", *probe(open_bucket(url, os.environ), folder)]
    except WorkerError as error:
        return [next((name for name, kind in _ERRORS.items() if isinstance(error, kind)), "away"), str(error)]


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
    print(json.dumps(_say(*sys.argv[1:])))  # noqa: T201 - to the process that asked
