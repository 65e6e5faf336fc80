"""An upload that goes on where it broke off: in chunks, by the protocol's `query`, across connections and processes."""

import time
from collections.abc import Callable

from sender.patience import TRIES, patiently, pause
from sender.pieces import Piece
from sender.record import Held, State
from sender.remote import Progress, Remote, UploadGone
from workers.errors import Incomplete, Transient

CHUNK_BYTES = 8 << 20  # A multiple of the 256 KiB that all but the last must be of.
FILE_LIFE_SECONDS = 47 * 3600.0  # Uploaded files live 48 hours; a creation wants it a while longer.

_RENEW_SECONDS = 60.0

Told = Callable[[int], object]


class Upload:
    """Brings a piece to the Files API, as the file that its record names."""

    def __init__(self, remote: Remote, held: Held, piece: Piece, told: Told) -> None:
        """`told` is told how many bytes have arrived."""
        self._remote = remote
        self._held = held
        self._piece = piece
        self._told = told
        self._renewed = time.monotonic()

    def run(self) -> None:
        """Until the whole file is there, and the record says so.

        Raises:
            Incomplete: what arrived is not what was read: the file was changed.
            WorkerError: as `workers.gemini.statuses` says; after many tries without progress, what went wrong.
        """
        if self._is_there():
            self._has_ended()
            return
        offset, failures, anew = self._begin(), 0, 0
        while offset is not None:
            try:
                progress = self._send(offset)
            except UploadGone:
                anew += 1
                if anew > TRIES:
                    raise
                offset = None if self._is_there() else self._anew()
                continue
            except Transient as error:
                failures += 1
                if failures > TRIES:
                    raise
                time.sleep(pause(failures, error.retry_after))
                arrived = self._ask()
                failures = 0 if arrived is not None and arrived > offset else failures
                offset = arrived
                continue
            failures = 0
            offset = None if progress.is_final else progress.received
            if offset is not None:
                self._told(offset)
                self._renew()
        self._has_ended()

    def _begin(self) -> int | None:
        """Where to go on: at the beginning of a new upload, or where an earlier process stopped."""
        return self._ask() if self._held.record.upload else self._anew()

    def _anew(self) -> int:
        """A new upload. Each one makes a file of a name of its own, so that none is taken for another."""
        record = self._held.record
        file = f"sub-{self._held.name}" + (f"-{record.uploads}" if record.uploads else "")
        address = patiently(lambda: self._remote.start_upload(file, record.display_name, self._piece.size))
        self._held.change(
            state=State.RESERVED,
            upload=address,
            upload_file=file,
            uploads=record.uploads + 1,
            uploaded_at=None,
        )
        return 0

    def _ask(self) -> int | None:
        """How much has arrived; None where all has."""
        address = self._held.record.upload or ""
        try:
            progress = patiently(lambda: self._remote.upload_state(address))
        except UploadGone:
            return None if self._is_there() else self._anew()
        if progress.is_final:
            return None
        self._told(progress.received or 0)
        return progress.received or 0

    def _send(self, offset: int) -> Progress:
        """The next chunk, of which the answer says how far it came."""
        data = bytearray()
        for chunk in self._piece.chunks(offset):
            data += chunk
            if len(data) >= CHUNK_BYTES:
                break
        data = data[:CHUNK_BYTES]
        is_last = offset + len(data) >= self._piece.size
        if not is_last and len(data) < CHUNK_BYTES:
            raise Incomplete(f"{self._piece.path} is shorter than it was; submit it once more.")
        progress = self._remote.upload(self._held.record.upload or "", offset, bytes(data), is_last=is_last)
        if progress.received is None and not progress.is_final:
            return Progress(offset + len(data), is_final=is_last)
        return progress

    def _is_there(self) -> bool:
        """Whether the file has arrived: an upload whose last answer was lost is known no more."""
        record = self._held.record
        return record.upload_file is not None and (
            patiently(lambda: self._remote.file(record.upload_file or "")) is not None
        )

    def _has_ended(self) -> None:
        record = self._held.record
        found = patiently(lambda: self._remote.file(record.upload_file or ""))
        if found is None or found.is_other_than(self._piece.size, self._piece.sha256):
            self._held.change(upload=None, upload_file=None, uploaded_at=None, state=State.RESERVED)
            raise Incomplete(
                f"What arrived of {self._piece.path} is not what was read: was it changed? Submit it once more."
            )
        self._told(self._piece.size)
        self._held.change(state=State.UPLOADED, upload=None, uploaded_at=time.time())

    def _renew(self) -> None:
        if time.monotonic() - self._renewed > _RENEW_SECONDS:
            self._renewed = time.monotonic()
            self._held.change()
