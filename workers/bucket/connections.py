"""obstore's stores, made on first use in each process: its runtime does not survive a fork."""

import os
import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from obstore.exceptions import BaseError
from obstore.store import from_url

from workers.bucket.access import Access
from workers.bucket.reasons import first_words, is_panic
from workers.errors import SettingsError

if TYPE_CHECKING:
    from obstore import ObjectMeta, UpdateVersion
    from obstore.store import ObjectStore, RetryConfig

# Short: a job that fails is tried again with a longer backoff, and meanwhile leaves its worker to others.
_RETRY: "RetryConfig" = {
    "max_retries": 5,
    "retry_timeout": timedelta(seconds=60),
    "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=5), "base": 2},
}
_CONNECT_TIMEOUT = timedelta(seconds=5)
_REQUEST_TIMEOUT = timedelta(seconds=60)


class Connections:
    """What reaches one bucket. An instance may be shared by threads and carried over a fork.

    Args:
        url: the bucket and a prefix.
        access: settings of obstore.
        idle: connections that are kept.

    Raises:
        SettingsError: obstore can't use them.
    """

    def __init__(self, url: str, access: Access, idle: int) -> None:
        # What is left to obstore's own threads is to drive connections, which one of them does with the fewest
        # switches: with a thread for each core, a put costs a tenth more.
        os.environ.setdefault("TOKIO_WORKER_THREADS", "1")
        self._url = url
        self._access = access
        self._idle = idle
        self._lock = threading.Lock()
        self._made: dict[tuple[int, str], ObjectStore] = {}
        self._make()  # Only to see now, not in a job, whether the settings do; it starts no runtime.

    @property
    def patient(self) -> "ObjectStore":
        """Repeats what may heal for a few seconds."""
        return self._get("patient")

    @property
    def quick(self) -> "ObjectStore":
        """Asks once: for what a store may lack, since obstore repeats a 501 like every other 5xx."""
        return self._get("quick", retry_config={"max_retries": 0})

    @property
    def single(self) -> "ObjectStore":
        """Deletes with a request for each object; on S3, where the others post a list."""
        return self._get("single", disable_bulk_delete="true")

    def _get(self, kind: str, **changes: Any) -> "ObjectStore":
        key = (os.getpid(), kind)
        store = self._made.get(key)
        if store is None:
            with self._lock:
                store = self._made.setdefault(key, self._make(**changes))
        return store

    def _make(self, retry_config: "RetryConfig" = _RETRY, **config: str) -> "ObjectStore":
        options: Any = {
            "config": {**self._access.config, **config},
            "client_options": {
                "connect_timeout": _CONNECT_TIMEOUT,
                "timeout": _REQUEST_TIMEOUT,
                "pool_max_idle_per_host": str(self._idle),
                "allow_http": self._access.plain_http,
            },
            "retry_config": retry_config,
        }
        try:
            return from_url(self._url, **options)
        except BaseException as error:
            if not isinstance(error, BaseError | ValueError) and not is_panic(error):
                raise
            suspects = " and ".join(self._access.unchecked or self._access.credentials) or "STORAGE_URL"
            raise SettingsError(
                f"{self._url} can't be used with the settings there are ({first_words(error)}): check {suspects}."
            ) from None


def version_of(meta: "ObjectMeta") -> "UpdateVersion":
    """What a condition can be made of; obstore takes no None."""
    version: UpdateVersion = {}
    if meta["e_tag"]:
        version["e_tag"] = meta["e_tag"]
    if meta["version"]:
        version["version"] = meta["version"]
    return version
