"""The story of a submission: reserve, upload, create, attach. Begun again, it goes on where it stopped."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

import msgspec

from sender import record as records
from sender.creation import Creation
from sender.patience import patiently
from sender.pieces import Piece, keep
from sender.record import Held, Options, Record, State, name_of
from sender.remote import EMBED, GENERATE, Remote
from sender.upload import FILE_LIFE_SECONDS, Upload
from workers.bucket import layout
from workers.bucket.protocol import Bucket
from workers.contract import submissions
from workers.errors import GeminiUnavailable, Permanent, Refused, WorkerError

SETTLE_SECONDS = 60.0


class AlreadySubmitted(Refused):
    """The same was submitted before: `record` says as which batch."""

    def __init__(self, record: Record) -> None:
        super().__init__(
            f"{record.file} was submitted already, as batches/{record.batch} on {record.created_at}: "
            "--again submits it once more."
        )
        self.record = record


@dataclass(slots=True)
class Said:
    """How progress is told: bytes that have arrived of a piece, and what is waited for."""

    arrived: Callable[[int], object] = lambda _: None
    waits: Callable[[str], object] = lambda _: None


@dataclass(slots=True)
class Submission:
    """One piece, to become one batch. `patience` is how many seconds room in the quota is waited for."""

    remote: Remote
    bucket: Bucket
    piece: Piece
    options: Options
    display_name: str
    number: int = 1
    of: int = 1
    again: bool = False
    keep_requests: bool = False
    attempt: int = 1
    patience: float = 86_400.0
    settle: float = SETTLE_SECONDS
    said: Said = field(default_factory=Said)

    def run(self) -> Record:
        """Submit it. What an earlier process left undone is brought to its end.

        Raises:
            AlreadySubmitted: it is a batch already.
            Refused: another process is at it; or Gemini refuses the key.
            WorkerError: what went wrong; the record says how far it came, and the same command goes on.
        """
        held = self._reserve()
        try:
            keep(self.bucket, held.name, self.piece, with_requests=held.record.has_requests)
            if not self.options.inline:
                self._upload(held)
            deadline = time.monotonic() + self.patience

            def wait(what: str, seconds: float) -> None:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise GeminiUnavailable(
                        f"{self.piece.path.name} still {what}; the same command waits on, --patience longer."
                    )
                held.change()
                self.said.waits(f"{self.piece.path.name} {what}; next try in {min(seconds, left):.0f} s.")
                time.sleep(min(seconds, left))

            creation = Creation(
                self.remote, held, self.piece, settle=self.settle, wait=wait, says=self.said.waits
            )
            return self._attach(held, creation.run())
        except (WorkerError, OSError, KeyboardInterrupt):
            _let_go(held)
            raise

    def _reserve(self) -> Held:
        """The record of this submission: a new one, the one that an earlier process left, or one more for `again`."""
        number = 0
        while (found := records.read(self.bucket, self._name(number))) is not None:
            following = records.read(self.bucket, self._name(number + 1))
            if following is None and found.state is not State.CREATED:
                break
            if following is None and not self.again:
                self._repair(self._name(number), found)
                raise AlreadySubmitted(found)
            number += 1
        held = records.reserve(self.bucket, self._name(number), self._record(number))
        if held.record.state is State.CREATED:
            raise AlreadySubmitted(held.record)
        return held

    def _name(self, again: int) -> str:
        return name_of(self.piece.sha256, self.options, again)

    def _record(self, again: int) -> Record:
        name = self._name(again)
        display_name = batch_name(self.display_name, name if self.options.inline else None)
        return Record(
            state=State.RESERVED,
            file=self.piece.path.name,
            bytes=self.piece.size,
            sha256=self.piece.sha256,
            requests=self.piece.requests,
            options=self.options,
            model=self.options.model,
            display_name=display_name,
            again=again,
            piece=self.number,
            pieces=self.of,
            created_at=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
            has_requests=self.keep_requests,
            resubmission_of=self.options.resubmission_of,
            attempt=self.attempt,
        )

    def _upload(self, held: Held) -> None:
        """Unless it is there. While the outcome of a creation is not known, its file is not made anew."""
        record = held.record
        uploaded = record.state is not State.RESERVED and record.upload_file and record.uploaded_at
        fresh = uploaded and time.time() - (record.uploaded_at or 0.0) < FILE_LIFE_SECONDS
        if fresh or record.creating_at is not None:
            return
        if uploaded:
            held.change(state=State.RESERVED, upload=None, upload_file=None, uploaded_at=None)
        Upload(self.remote, held, self.piece, self.said.arrived).run()

    def _attach(self, held: Held, batch: str) -> Record:
        record = held.change(
            state=State.CREATED, batch=batch, creating_at=None, doubts=0, upload=None, holder=None
        )
        self._repair(held.name, record)
        return record

    def _repair(self, name: str, record: Record) -> None:
        """What stands beside the record of a batch, also after a crash between the two."""
        pointer = submissions.pointer(record.batch or "")
        told = submissions.Pointer(name, record.has_requests).encoded()
        if self.bucket.get(pointer) != told:
            self.bucket.put(pointer, told, layout.JSON)
        if record.resubmission_of:
            _link(self.bucket, record.resubmission_of, record.batch or "")


def _link(bucket: Bucket, parent: str, child: str) -> None:
    """Have the record of a batch name the one that it was submitted again as."""
    while (found := records.of_batch(bucket, parent)) is not None:
        name, record = found
        if child in record.resubmitted_as:
            return
        old = bucket.get(submissions.record(name))
        if old is None:
            return
        record = records.decode(old, name)
        linked = msgspec.structs.replace(record, resubmitted_as=sorted({*record.resubmitted_as, child}))
        if bucket.replace(submissions.record(name), old, records.encode(linked), layout.JSON):
            return


def _let_go(held: Held) -> None:
    """So that the same command can go on at once, elsewhere too. Where even that fails, time does it."""
    try:
        held.change(holder=None)
    except (WorkerError, OSError):
        return


def check_model(remote: Remote, model: str, *, embeddings: bool) -> None:
    """Before anything is uploaded: a model that is gone, or has no batches, is not refused but hangs until it expires.

    Raises:
        Permanent: there is none of this name, or it can't do this.
        WorkerError: as `workers.gemini.statuses` says.
    """
    found = patiently(lambda: remote.model(model))
    methods = found.supported_generation_methods
    method = EMBED if embeddings else GENERATE
    if methods is None or method in methods:
        return
    other = GENERATE if embeddings else EMBED
    if other in methods:
        hint = "leave out --embeddings" if embeddings else "try --embeddings"
    else:
        hint = f"it can do {', '.join(methods) or 'nothing'}"
    raise Permanent(f"{model} has no batches of this kind ({method}): {hint}.")


def batch_name(name: str, submission: str | None) -> str:
    """What Gemini calls a batch. By that inline requests are told apart in its list, as no file does it there."""
    return f"{name}-{submission[:8]}" if submission else name


def piece_name(name: str, number: int, of: int) -> str:
    """What a batch is called: where a file becomes several, with the number of the piece."""
    return f"{name}-{number:0{len(str(of))}d}" if of > 1 else name
