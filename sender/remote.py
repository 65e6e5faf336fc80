"""The calls of Gemini's API that only the submit side makes: models, uploads, creation, cancelling, deleting."""

import base64
import binascii
from collections.abc import Iterator
from typing import Any, TypeVar

import msgspec

from workers.contract import parse_batch_id
from workers.errors import GeminiUnavailable, Permanent, WorkerError
from workers.gemini.batches import Batch, parse_batch, timestamp
from workers.gemini.client import Gemini
from workers.gemini.http import Exchanged
from workers.gemini.statuses import About

T = TypeVar("T")

GENERATE, EMBED = "batchGenerateContent", "asyncBatchEmbedContent"
# What says for certain that nothing was created; everything else leaves it open.
NOT_CREATED = {400, 401, 403, 404, 429}
QUOTA = 429

_CLOCKS_APART = 3600.0


class Model(msgspec.Struct, rename="camel"):
    name: str = ""
    supported_generation_methods: list[str] | None = None
    input_token_limit: Any = None


class Uploaded(msgspec.Struct, rename="camel"):
    """A file as the Files API describes it."""

    name: str = ""
    size_bytes: str = ""
    sha256_hash: str = ""

    def is_other_than(self, size: int, sha256: str) -> bool:
        """Whether it is known to hold other bytes. The hash is the base64 of its hexadecimal digits, or of itself."""
        if self.size_bytes and self.size_bytes != str(size):
            return True
        try:
            told = base64.b64decode(self.sha256_hash, validate=True)
        except (binascii.Error, ValueError):
            return False
        return len(told) in {32, 64} and told not in {sha256.encode(), bytes.fromhex(sha256)}


class _Answer(msgspec.Struct):
    file: Uploaded | None = None


class Progress(msgspec.Struct, frozen=True):
    """How far an upload is: bytes that arrived, and whether it has ended there; the file where the answer held it."""

    received: int | None
    is_final: bool = False
    file: Uploaded | None = None


class UploadGone(Permanent):
    """There is no such upload any more."""


class Refusal(Exception):
    """Nothing was created, for certain: `status` and `error` say why."""

    def __init__(self, status: int, error: WorkerError) -> None:
        super().__init__(str(error))
        self.status = status
        self.error = error


class Remote:
    def __init__(self, gemini: Gemini) -> None:
        self.gemini = gemini
        self._http = gemini.http

    def model(self, name: str) -> Model:
        """What is known of a model.

        Raises:
            Permanent: there is none of this name.
            WorkerError: as `workers.gemini.statuses` says.
        """
        answer = self._http.exchange("GET", f"/v1beta/models/{name.removeprefix('models/')}", About.MODEL)
        return _decoded(_good(answer), Model)

    def start_upload(self, file: str, display_name: str, size: int) -> str:
        """The address of a new upload of `size` bytes that will be the file files/`file`."""
        headers = {
            "x-goog-upload-protocol": "resumable",
            "x-goog-upload-command": "start",
            "x-goog-upload-header-content-length": str(size),
            "x-goog-upload-header-content-type": "application/jsonl",
        }
        body = {"file": {"name": f"files/{file}", "displayName": display_name}}
        answer = self._http.exchange("POST", "/upload/v1beta/files", About.UPLOAD, headers=headers, body=body)
        address = _good(answer).headers.get("x-goog-upload-url", "")
        if not address:
            raise GeminiUnavailable("Gemini began an upload without saying where to: try again.")
        return address

    def upload_state(self, address: str) -> Progress:
        """How far an upload is. Raises `UploadGone`."""
        return self._continue(address, {"x-goog-upload-command": "query"}, b"")

    def upload(self, address: str, offset: int, data: bytes, *, is_last: bool) -> Progress:
        """Send the bytes at `offset`. Raises `UploadGone`; `GeminiUnavailable` where it is not known what arrived."""
        command = "upload, finalize" if is_last else "upload"
        headers = {"x-goog-upload-command": command, "x-goog-upload-offset": str(offset)}
        return self._continue(address, headers, data)

    def _continue(self, address: str, headers: dict[str, str], data: bytes) -> Progress:
        answer = self._http.exchange("POST", address, About.UPLOAD, headers=headers, content=data)
        if answer.status in {404, 410}:
            raise UploadGone("Gemini knows the upload no more; it begins anew.")
        told = _good(answer).headers
        received = told.get("x-goog-upload-size-received", "")
        return Progress(
            received=int(received) if received.isdecimal() else None,
            is_final=told.get("x-goog-upload-status", "").lower() == "final",
            file=_file_in(answer.body),
        )

    def file(self, file: str) -> Uploaded | None:
        """The uploaded file files/`file`, or None. 403 is what the Files API says of what is not there."""
        answer = self._http.exchange("GET", f"/v1beta/files/{file}", About.UPLOAD)
        if answer.status in {403, 404}:
            return None
        return _decoded(_good(answer), Uploaded)

    def create(self, model: str, job: dict[str, Any] | bytes, *, embeddings: bool) -> str:
        """Create a batch: one call, never repeated here. Its id.

        Raises:
            Refusal: nothing was created.
            GeminiUnavailable: whether it was created is not known.
        """
        method = EMBED if embeddings else GENERATE
        content = job if isinstance(job, bytes) else msgspec.json.encode(job)
        answer = self._http.exchange(
            "POST",
            f"/v1beta/models/{model.removeprefix('models/')}:{method}",
            About.MODEL,
            headers={"content-type": "application/json"},
            content=content,
        )
        if answer.error is not None and answer.status in NOT_CREATED:
            raise Refusal(answer.status, answer.error)
        if answer.error is not None:
            raise GeminiUnavailable(str(answer.error))
        batch = parse_batch_id(parse_batch(answer.body).id)
        if batch is None:
            raise GeminiUnavailable("Gemini's answer to the creation names no batch.")
        return batch

    def made_from(self, *, file: str | None, display_name: str, since: float) -> Iterator[Batch]:
        """The batches that were made from our file or, of inline requests, under our own display name.

        `since` is when the creation was begun, in seconds since 1970: older ones are not looked at.
        """
        for batch in self.gemini.batches():
            is_ours = (
                batch.display_name == display_name if file is None else batch.input_file == f"files/{file}"
            )
            if is_ours:
                yield batch
            created = timestamp(batch.created_at)
            if created is not None and created < since - _CLOCKS_APART:
                return

    def cancel(self, batch: str) -> None:
        """Ask for a batch to be cancelled. Raises `Unreadable` and what else a status stands for."""
        _good(self._http.exchange("POST", f"/v1beta/batches/{batch}:cancel", About.BATCH, body={}))

    def delete(self, batch: str) -> None:
        """Delete a batch, with its results. Older pages had it as a call of its own."""
        answer = self._http.exchange("DELETE", f"/v1beta/batches/{batch}", About.BATCH)
        if answer.status in {405, 501}:
            answer = self._http.exchange("POST", f"/v1beta/batches/{batch}:delete", About.BATCH, body={})
        _good(answer)


def _good(answer: Exchanged) -> Exchanged:
    if answer.error is not None:
        raise answer.error
    return answer


def _decoded(answer: Exchanged, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(answer.body, type=kind)
    except (msgspec.MsgspecError, RecursionError):
        raise GeminiUnavailable("Gemini's answer could not be read: try again.") from None


def _file_in(body: bytes) -> Uploaded | None:
    try:
        return msgspec.json.decode(body, type=_Answer).file if body else None
    except (msgspec.MsgspecError, RecursionError):
        return None
