"""The record of a submission: `_submitted/<name>.json`, created only once, changed only by comparing."""

import hashlib
import os
import secrets
import socket
import time
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec

from workers.bucket import layout
from workers.bucket.protocol import Bucket
from workers.contract import submissions
from workers.errors import Incomplete, Refused

_NAME_CHARACTERS = 32


class State(StrEnum):
    RESERVED = "reserved"
    UPLOADED = "uploaded"
    CREATED = "created"
    FAILED = "failed"


class Holder(msgspec.Struct, frozen=True):
    """The process that works on a submission, until when (seconds since 1970) at most without a sign of life."""

    token: str
    host: str
    process: str
    until: float


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What a submission is besides its content; part of what its name is made of."""

    model: str
    embeddings: bool = False
    display_name: str | None = None
    priority: int | None = None
    dynamic: list[str] = []
    metadata: dict[str, str] = {}
    inline: bool = False
    openai: bool = False
    resubmission_of: str | None = None


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a submission.

    `again` counts the times that the same was submitted on purpose, from 0. `upload` is the address of an upload that
    has not ended, `upload_file` and `uploaded_at` the file that it becomes. `creating_at` stands while the outcome of
    a creation is not known, and `doubts` says of how many. Times are RFC 3339, but for seconds since 1970 in
    `creating_at` and `uploaded_at`.
    """

    schema: int = 1
    state: State
    file: str
    bytes: int
    sha256: str
    requests: int
    options: Options
    model: str
    display_name: str
    again: int = 0
    piece: int = 1
    pieces: int = 1
    created_at: str
    upload: str | None = None
    upload_file: str | None = None
    uploads: int = 0
    uploaded_at: float | None = None
    creating_at: float | None = None
    doubts: int = 0
    batch: str | None = None
    error: str | None = None
    has_requests: bool = False
    resubmission_of: str | None = None
    resubmitted_as: list[str] = []
    attempt: int = 1
    holder: Holder | None = None


_decode = msgspec.json.Decoder(Record).decode


def name_of(sha256: str, options: Options, again: int) -> str:
    """What the record is called: by content, model and options."""
    what = msgspec.json.encode([sha256, options, again], order="sorted")
    return hashlib.sha256(what).hexdigest()[:_NAME_CHARACTERS]


class Held:
    """A record that is being worked on here. Every change is made by comparing, so that a second process is noticed."""

    def __init__(self, bucket: Bucket, name: str, blob: bytes) -> None:
        self._bucket = bucket
        self.name = name
        self._blob = blob
        self.record = decode(blob, name)

    def change(self, **changes: Any) -> Record:
        """Store the record with these fields changed, and the hold on it renewed.

        Raises:
            Refused: somebody else has changed it.
        """
        if self.record.holder is not None and "holder" not in changes:
            changes["holder"] = msgspec.structs.replace(self.record.holder, until=time.time() + HOLD_SECONDS)
        record = msgspec.structs.replace(self.record, **changes)
        blob = encode(record)
        if not self._bucket.replace(submissions.record(self.name), self._blob, blob, layout.JSON):
            raise Refused("Another process works on the same submission; leave it to that one.")
        self._blob, self.record = blob, record
        return record


HOLD_SECONDS = 900.0
"""Longer than any single step: a creation, a chunk, a wait for room."""


def encode(record: Record) -> bytes:
    return msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n"


def decode(blob: bytes, name: str) -> Record:
    """Raises `Incomplete` where it is no record."""
    try:
        return _decode(blob)
    except (msgspec.MsgspecError, RecursionError):
        raise Incomplete(f"{submissions.record(name)} is not readable; move it away and try again.") from None


def read(bucket: Bucket, name: str) -> Record | None:
    blob = bucket.get(submissions.record(name))
    return decode(blob, name) if blob is not None else None


def of_batch(bucket: Bucket, batch: str) -> tuple[str, Record] | None:
    """The submission that a batch came of, if it is known: its name, and its record."""
    pointer = submissions.Pointer.decoded(bucket.get(submissions.pointer(batch)))
    record = read(bucket, pointer.submission) if pointer else None
    return (pointer.submission, record) if pointer and record else None


def reserve(bucket: Bucket, name: str, record: Record) -> Held:
    """Take a submission: a new record, or the one that an earlier process left.

    Raises:
        Refused: a process that lives works on it.
    """
    blob = encode(msgspec.structs.replace(record, holder=_here()))
    if bucket.create(submissions.record(name), blob, layout.JSON):
        return Held(bucket, name, blob)
    found = bucket.get(submissions.record(name))
    if found is None:
        raise Refused("The record of the submission is gone again; try once more.")
    held = Held(bucket, name, found)
    holder = held.record.holder
    if held.record.state is State.CREATED:
        return held
    if holder is not None and _may_live(holder):
        raise Refused(
            f"{held.record.file} is being submitted by another process, on {holder.host}: "
            "leave it to that one, or stop it and try again."
        )
    held.change(holder=_here())
    return held


def chain(bucket: Bucket, batch: str) -> Iterator[tuple[str, Record | None]]:
    """A batch and all that it was submitted again as, oldest first, as far as records tell."""
    waiting, seen = [batch], set[str]()
    while waiting:
        each = waiting.pop(0)
        if each in seen:
            continue
        seen.add(each)
        found = of_batch(bucket, each)
        yield each, found[1] if found else None
        waiting += found[1].resubmitted_as if found else []


def _here() -> Holder:
    return Holder(secrets.token_hex(8), _host(), _process(os.getpid()), time.time() + HOLD_SECONDS)


def _may_live(holder: Holder) -> bool:
    """Whether the process may still be at work: on this machine that can be seen, elsewhere its time has to pass."""
    if holder.until < time.time():
        return False
    if holder.host != _host():
        return True
    pid = holder.process.partition(":")[0]
    return holder.process == _process(int(pid)) if pid.isdecimal() else False


def _host() -> str:
    """This machine and, in a container, this one: numbers of processes mean something only there."""
    try:
        space = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        space = ""
    return f"{socket.gethostname()} {space}".strip()


def _process(pid: int) -> str:
    """A process by its number and, as numbers are used again, when it began."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
        fields = stat.rpartition(")")[2].split()
        return f"{pid}:{fields[19]}" if fields[0] != "Z" else ""
    except (OSError, IndexError):
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except OSError:
        pass
    return str(pid)
