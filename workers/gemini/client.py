"""Gemini's API for one key: a batch, the list of batches, result files, webhooks."""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager

from workers.errors import GeminiUnavailable, KeyRefused, WorkerError
from workers.gemini import files
from workers.gemini.access import Access
from workers.gemini.batches import Batch, parse_batch, parse_listed, parse_page
from workers.gemini.files import Download, Pace
from workers.gemini.http import Http, Limits
from workers.gemini.paging import listed
from workers.gemini.spool import Body
from workers.gemini.statuses import About
from workers.gemini.webhooks import Webhooks

logger = logging.getLogger("workers")

__all__ = ["Gemini", "KeyRefused", "WorkerError"]


class Gemini:
    """A client for one API key. Build it before forking: its TLS context costs 15 to 28 ms. Close it at the end.

    `http` is for calls that a single room makes.
    """

    def __init__(self, access: Access, limits: Limits | None = None) -> None:
        self.http = Http(access, limits or Limits())
        self.webhooks = Webhooks(self.http)

    def close(self) -> None:
        self.http.close()

    @property
    def requests(self) -> Counter[tuple[str, str]]:
        """How many requests there were, by what was asked for and status; whoever counts them clears it."""
        return self.http.requests

    def batch(self, batch: str) -> Batch:
        """Ask for one batch.

        Raises:
            Unreadable: 404, or 403 about the batch.
            KeyRefused: the API key is not accepted.
            GeminiUnavailable: anything that can heal, an answer that is no batch included.
            Permanent: what is known not to heal.
        """
        return parse_batch(self.http.batch(f"/v1beta/batches/{batch}"), batch)

    def batches(self, page_size: int = 100) -> Iterator[Batch]:
        """All batches, newest first as Gemini lists them, page by page, without their inline results.

        Their ids are as Gemini names them: check them. Raises as `batch` does.
        """

        def fetch(token: str) -> tuple[Iterator[Batch], str]:
            params = {"pageSize": str(page_size)} | ({"pageToken": token} if token else {})
            content = self.http.call("GET", "/v1beta/batches", About.LIST, params=params)
            try:
                operations, token = parse_page(content)
            except ValueError:
                raise GeminiUnavailable(
                    "Gemini's list of batches could not be read; it is asked for again."
                ) from None
            return _readable(operations), token

        return listed("batches", fetch)

    def download(
        self,
        file: str,
        start: int = 0,
        etag: str | None = None,
        pace: Pace | None = None,
        *,
        at_second: bool = False,
    ) -> AbstractContextManager[Download]:
        """Stream a result file from byte `start`.

        The answer may begin earlier than asked for (`Download.start`) where the server ignores `Range` or the file
        is no longer the one of `etag`. `pace` is that of an earlier download of the file that broke off. `at_second`:
        the second of its addresses is asked first.

        Raises:
            ResultsGone: 404, or 403 about the file.
            KeyRefused, Refused: 403 about the key, or without a reason.
            TooSlow: it comes below the least rate.
            GeminiUnavailable: anything that can heal, a cut connection included.
        """
        return files.download(self.http, file, start, etag, pace, at_second=at_second)


def _readable(operations: Iterable[Body]) -> Iterator[Batch]:
    for operation in operations:
        try:
            yield parse_listed(operation)
        except GeminiUnavailable:
            logger.warning(
                "event=unreadable_batch_listed", extra={"fields": {"event": "unreadable_batch_listed"}}
            )
