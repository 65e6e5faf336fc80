"""Making an uploaded file, or inline requests, a batch: exactly one, whatever is cut or killed on the way.

The record says that a creation is under way before it is sent. Where its outcome is not known, Gemini's list decides:
the file's name is our own, and so is the display name of inline requests. It is never sent again before that. Where it
was sent again, the list is watched longer: should the first one turn up after all, the second is taken back.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from sender.patience import TRIES, patiently, pause
from sender.pieces import Piece
from sender.record import Held, Options, State
from sender.remote import QUOTA, Refusal, Remote
from workers.contract import parse_batch_id
from workers.errors import GeminiUnavailable, Permanent, Refused, WorkerError

INLINE_LIMIT_BYTES = 20 * 1000**2

_LOOK_SECONDS = 1.0
_NO_ROOM = (15.0, 300.0)


class Creation:
    """`settle` is for how many seconds after a lost answer the batch may still turn up in the list."""

    def __init__(
        self,
        remote: Remote,
        held: Held,
        piece: Piece,
        *,
        settle: float,
        wait: Callable[[str, float], None],
        says: Callable[[str], object],
    ) -> None:
        """`wait` is told what is waited for, and how long; it raises where patience ends."""
        self._remote = remote
        self._held = held
        self._piece = piece
        self._settle = settle
        self._wait = wait
        self._says = says

    def run(self) -> str:
        """The id of the one batch.

        Raises:
            Permanent, Refused: it was refused, and nothing was created; the record says why.
            GeminiUnavailable: what became of it can't be found out now; the same command goes on.
        """
        unknown = 0
        while True:
            if self._held.record.doubts and (
                found := self._watched("looks whether Gemini has created the batch")
            ):
                return self._first(found)
            batch = self._created()
            if batch is not None:
                return batch if self._held.record.doubts == 1 else self._only(batch)
            unknown += 1
            if unknown > TRIES:
                raise GeminiUnavailable("Gemini creates no batch and does not say why: try again later.")

    def _created(self) -> str | None:
        """One creation, and one more whenever there was no room; None where its outcome is not known."""
        waited = 0
        job = self._job()
        while True:
            before = self._held.record
            self._held.change(
                creating_at=before.creating_at or time.time(),
                doubts=before.doubts + 1,
                state=State.UPLOADED,
                error=None,
            )
            options = self._held.record.options
            try:
                return self._remote.create(self._held.record.model, job, embeddings=options.embeddings)
            except GeminiUnavailable:
                return None
            except Refusal as refusal:
                if refusal.status != QUOTA:
                    self._refused(refusal)
                self._held.change(creating_at=before.creating_at, doubts=before.doubts)
                waited += 1
                asked = getattr(refusal.error, "retry_after", None)
                self._wait(
                    f"waits for room in the quota ({refusal.error})",
                    pause(waited, asked) if asked is not None else min(_NO_ROOM[1], _NO_ROOM[0] * 2**waited),
                )

    def _refused(self, refusal: Refusal) -> None:
        """Free the reservation: the same command begins anew. A file that is gone is uploaded again."""
        gone = {"upload_file": None, "uploaded_at": None} if refusal.status == 404 else {}
        self._held.change(creating_at=None, doubts=0, state=State.FAILED, error=str(refusal), **gone)
        raise refusal.error

    def _only(self, batch: str) -> str:
        """This batch or, where an earlier creation made one after all, that one."""
        found = self._watched(f"looks whether batches/{batch} is the only one", batch)
        return self._first([batch, *(each for each in found if each != batch)])

    def _watched(self, what: str, known: str | None = None) -> list[str]:
        """Our batches, newest first: as many as may have been made, or all that turned up in time.

        Where one creation did not turn up in time, the list is the slower one, and the next are given more.
        """
        ends = time.time() + self._settle * self._held.record.doubts
        while True:
            is_last = time.time() > ends
            found = patiently(lambda: list(self._found()))
            if is_last or len({*found, known} - {None}) >= self._held.record.doubts:
                return found
            self._wait(what, min(_LOOK_SECONDS, self._settle))

    def _first(self, found: list[str]) -> str:
        """The oldest of our batches, the last one here; the others are taken back."""
        *surplus, kept = found
        for each in surplus:
            try:
                self._remote.cancel(each)
                self._remote.delete(each)
            except WorkerError as error:
                self._says(f"batches/{each} is one too many beside batches/{kept}, and stays: {error}")
            else:
                self._says(
                    f"batches/{each} was one too many beside batches/{kept}: it is cancelled and deleted."
                )
        return kept

    def _found(self) -> Iterator[str]:
        record = self._held.record
        begun = record.creating_at or 0.0
        file = None if record.options.inline else record.upload_file
        for batch in self._remote.made_from(file=file, display_name=record.display_name, since=begun):
            if name := parse_batch_id(batch.id):
                yield name

    def _job(self) -> bytes:
        record = self._held.record
        config = _inline(self._piece) if record.options.inline else None
        source: Any = config or {"fileName": f"files/{record.upload_file}"}
        return job(record.display_name, source, record.options)


def job(display_name: str, source: Any, options: Options) -> bytes:
    """The body of a creation. Raises `Permanent` where it is too large."""
    batch: dict[str, Any] = {"displayName": display_name, "inputConfig": source}
    if options.priority is not None:
        batch["priority"] = options.priority
    if options.dynamic:
        batch["webhookConfig"] = {"uris": options.dynamic}
        if options.metadata:
            batch["webhookConfig"]["userMetadata"] = options.metadata
    body = msgspec.json.encode({"batch": batch})
    if options.inline and len(body) > INLINE_LIMIT_BYTES:
        raise Permanent("Inline requests must be under 20 MB together: submit them without --inline.")
    return body


class _Line(msgspec.Struct):
    request: msgspec.Raw
    key: msgspec.Raw = msgspec.Raw(b"null")


def _inline(piece: Piece) -> dict[str, Any]:
    if piece.size > INLINE_LIMIT_BYTES:
        raise Permanent("Inline requests must be under 20 MB together: submit them without --inline.")
    try:
        lines = [
            msgspec.json.decode(line, type=_Line)
            for line in b"".join(piece.chunks()).split(b"\n")
            if line.strip()
        ]
    except msgspec.MsgspecError:
        raise Refused("A line is no request; `check` says which.") from None
    return {
        "requests": {"requests": [{"request": each.request, "metadata": {"key": each.key}} for each in lines]}
    }
