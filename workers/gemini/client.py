"""Gemini's API for one key: a batch, the list of batches, result files, webhooks."""

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager

import msgspec

from workers.errors import GeminiUnavailable, Permanent
from workers.gemini import files
from workers.gemini.access import Access
from workers.gemini.batches import Batch, parse_batch
from workers.gemini.files import Download
from workers.gemini.http import Http, Limits
from workers.gemini.paging import pages
from workers.gemini.statuses import About
from workers.gemini.webhooks import Webhooks

logger = logging.getLogger("workers")


class _Page(msgspec.Struct, rename="camel"):
    operations: list[msgspec.Raw] = []
    next_page_token: str = ""


_page = msgspec.json.Decoder(_Page)


class Gemini:
    """A client for one API key. Build it before forking: its TLS context costs 15 to 28 ms. Close it at the end."""

    def __init__(self, access: Access, limits: Limits | None = None) -> None:
        self._http = Http(access, limits or Limits())
        self.webhooks = Webhooks(self._http)

    def close(self) -> None:
        self._http.close()

    def batch(self, batch: str) -> Batch:
        """Ask for one batch.

        Raises:
            Unreadable: 404 or 403.
            KeyRefused: the API key is not accepted.
            GeminiUnavailable: anything that can heal.
            Permanent: an answer that is no batch.
        """
        return parse_batch(self._http.call("GET", f"/v1beta/batches/{batch}", About.BATCH), batch)

    def batches(self, page_size: int = 100) -> Iterator[Batch]:
        """All batches, newest first as Gemini lists them, page by page. Their ids are as Gemini names them: check them.

        Raises as `batch` does.
        """

        def fetch(token: str) -> tuple[_Page, str]:
            params = {"pageSize": str(page_size)} | ({"pageToken": token} if token else {})
            content = self._http.call("GET", "/v1beta/batches", About.LIST, params=params)
            try:
                page = _page.decode(content)
            except (msgspec.MsgspecError, RecursionError):
                raise GeminiUnavailable(
                    "Gemini's list of batches could not be read; it is asked for again."
                ) from None
            return page, page.next_page_token

        for page in pages("batches", fetch):
            for operation in page.operations:
                try:
                    yield parse_batch(memoryview(operation))
                except Permanent:
                    logger.warning("event=unreadable_batch_listed")

    def download(
        self, file: str, start: int = 0, etag: str | None = None
    ) -> AbstractContextManager[Download]:
        """Stream a result file from byte `start`.

        The answer may begin earlier than asked for (`Download.start`) where the server ignores `Range` or the file
        is no longer the one of `etag`.

        Raises:
            ResultsGone: 404 or 403, the file's 48 hours are over.
            GeminiUnavailable: anything that can heal, a cut connection included.
        """
        return files.download(self._http, file, start, etag)
