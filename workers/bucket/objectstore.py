"""A bucket in an object store: obstore's synchronous calls, from threads.

obstore's asyncio API may abort the interpreter at its exit, and its runtime does not survive a fork: the
store is therefore made on first use in each process. Names pass unchanged: obstore's `Path` neither decodes
nor encodes them (only the request line is encoded, and the server undoes that), so `outputs/a%2Fb.json` is
that very key.
"""

import heapq
import os
import re
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import from_url

from workers.bucket.protocol import BucketRefused, MissingObject, check_name, check_prefix, join
from workers.bucket.sink import Sink
from workers.bucket.upload import Upload
from workers.errors import BucketUnavailable, SettingsError, WorkerError

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig
    from obstore.store import ObjectStore as Store

_CONCURRENCY = 32
# Up to this an object whose size is known is one request: three requests fewer than the smallest multipart.
_PUT_BYTES = 32 << 20
# S3 wants parts of 5 MiB or more, and takes 10,000 of them: 80 GB.
_PART_BYTES = 8 << 20
_PARTS_AT_ONCE = 4
# What S3 copies in one request.
_COPY_BYTES = 5 << 30
_READ_BYTES = 8 << 20
# What one DeleteObjects request of S3 takes; obstore splits further where a store takes less.
_DELETE_AT_ONCE = 1000

# Short: a job that fails is tried again with a longer backoff, and meanwhile leaves its worker to others.
_RETRY: "RetryConfig" = {
    "max_retries": 5,
    "retry_timeout": timedelta(seconds=60),
    "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=5), "base": 2},
}
_CONNECT_TIMEOUT = timedelta(seconds=5)
_REQUEST_TIMEOUT = timedelta(seconds=60)

# obstore refuses keys that it doesn't know, so only these are passed on (the last one that is set counts).
_SETTINGS: dict[str, dict[str, str]] = {
    "s3": {
        "AWS_ACCESS_KEY_ID": "access_key_id",
        "AWS_SECRET_ACCESS_KEY": "secret_access_key",
        "AWS_SESSION_TOKEN": "session_token",
        "AWS_DEFAULT_REGION": "region",
        "AWS_REGION": "region",
        "AWS_ENDPOINT_URL": "endpoint",
        "AWS_ENDPOINT_URL_S3": "endpoint",
        "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "virtual_hosted_style_request",
        "AWS_WEB_IDENTITY_TOKEN_FILE": "web_identity_token_file",
        "AWS_ROLE_ARN": "role_arn",
        "AWS_ROLE_SESSION_NAME": "role_session_name",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "container_credentials_relative_uri",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": "container_credentials_full_uri",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": "container_authorization_token_file",
        "AWS_SERVER_SIDE_ENCRYPTION": "server_side_encryption",
        "AWS_SSE_KMS_KEY_ID": "sse_kms_key_id",
    },
    "gs": {
        "GOOGLE_SERVICE_ACCOUNT": "service_account",
        "GOOGLE_SERVICE_ACCOUNT_KEY": "service_account_key",
        "GOOGLE_APPLICATION_CREDENTIALS": "application_credentials",
    },
    "az": {
        "AZURE_STORAGE_ACCOUNT_NAME": "account_name",
        "AZURE_STORAGE_ACCOUNT_KEY": "account_key",
        "AZURE_STORAGE_SAS_TOKEN": "sas_token",
        "AZURE_STORAGE_ENDPOINT": "endpoint",
        "AZURE_CLIENT_ID": "client_id",
        "AZURE_CLIENT_SECRET": "client_secret",
        "AZURE_TENANT_ID": "tenant_id",
        "AZURE_FEDERATED_TOKEN_FILE": "federated_token_file",
    },
    "memory": {},
}

_STATUS = re.compile(r"status code: (\d{3})")
_NOT_IMPLEMENTED = re.compile(r"\b501\b|NotImplemented")
_CODE = re.compile(r"<Code>(\w{1,64})</Code>")
_REFUSING_STATUSES = {"301", "401", "403"}
_REFUSING_CODES = {"ExpiredToken", "InvalidToken", "NoSuchBucket", "ContainerNotFound"}
_MACHINE_CREDENTIALS = re.compile(r"169\.254\.169\.254|metadata\.google\.internal")


class ObjectStore:
    """`Bucket` below the prefix of an `s3://`, `gs://` or `az://` URL."""

    ignores_case = False

    def __init__(self, url: str, env: Mapping[str, str], *, concurrency: int | None = None) -> None:
        parts = urlsplit(url)
        if parts.scheme != "memory" and not parts.netloc:
            raise SettingsError(f"STORAGE_URL names no bucket: it must be {parts.scheme}://bucket/prefix.")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise SettingsError(
                "STORAGE_URL holds more than a bucket and a prefix: credentials go elsewhere."
            )
        self.url = url
        self.concurrency = concurrency or _CONCURRENCY
        # What is left to obstore's own threads is to drive connections, which one of them does with the fewest
        # switches: with a thread for each core, a put costs a tenth more.
        os.environ.setdefault("TOKIO_WORKER_THREADS", "1")
        self._scheme = parts.scheme
        self._config = {key: env[name] for name, key in _SETTINGS[parts.scheme].items() if env.get(name)}
        self._lock = threading.Lock()
        self._stores: dict[int, Store] = {}
        self._connect()  # Only to see now, not in a job, whether the settings do; it starts no runtime.

    @property
    def _store(self) -> "Store":
        """The store of this process."""
        store = self._stores.get(os.getpid())
        if store is None:
            with self._lock:
                store = self._stores.setdefault(os.getpid(), self._connect())
        return store

    def _connect(self) -> "Store":
        if self._scheme == "memory":
            return from_url(self.url)
        client: ClientConfig = {
            "connect_timeout": _CONNECT_TIMEOUT,
            "timeout": _REQUEST_TIMEOUT,
            "pool_max_idle_per_host": str(self.concurrency + _PARTS_AT_ONCE),
        }
        if self._config.get("endpoint", "").startswith("http://"):
            client["allow_http"] = True
        options: Any = {"config": self._config, "client_options": client, "retry_config": _RETRY}
        try:
            return from_url(self.url, **options)
        except (BaseError, ValueError) as error:
            raise SettingsError(
                f"{self.url} can't be used with the settings there are: {_first_words(error)}."
            ) from None

    def get(self, name: str) -> bytes | None:
        check_name(name)
        with self._translated():
            try:
                return obstore.get(self._store, name).bytes().to_bytes()
            except FileNotFoundError as error:
                self._missing(error)
                return None

    def size(self, name: str) -> int | None:
        check_name(name)
        with self._translated():
            try:
                return obstore.head(self._store, name)["size"]
            except FileNotFoundError as error:
                self._missing(error)
                return None

    def read(self, name: str, chunk: int = 256 << 10, start: int = 0) -> Iterator[bytes]:
        """See `Bucket`. Ranges of 8 MiB, so that a slow reader never outlasts a request's timeout."""
        check_name(name)
        missing = MissingObject(f"{name} is not, or no longer, in {self.url}.")
        with self._translated():
            try:
                meta = obstore.head(self._store, name)
            except FileNotFoundError:
                raise missing from None
        for offset in range(start, meta["size"], _READ_BYTES):
            end = min(offset + _READ_BYTES, meta["size"])
            with self._translated():
                try:
                    found = obstore.get(
                        self._store, name, options={"range": (offset, end), "if_match": meta["e_tag"]}
                    )
                    data = found.bytes().to_bytes()
                except FileNotFoundError:
                    raise missing from None
            for position in range(0, len(data), chunk):
                yield data[position : position + chunk]

    def put(self, name: str, data: bytes, content_type: str) -> None:
        self._put(check_name(name), data, content_type)

    def create(self, name: str, data: bytes, content_type: str) -> bool:
        check_name(name)
        with self._translated():
            try:
                obstore.put(self._store, name, data, attributes={"Content-Type": content_type}, mode="create")
            except AlreadyExistsError:
                return False
            except BaseError as error:
                if not _NOT_IMPLEMENTED.search(str(error)):
                    raise
                # A store without conditional writes: two creations at the same moment may both succeed.
                if self.size(name) is not None:
                    return False
                self._put(name, data, content_type)
        return True

    def copy(self, source: str, target: str, content_type: str) -> None:
        check_name(target)
        size = self.size(source)
        if size is not None and size > _COPY_BYTES:
            join(self, [source], target, content_type)
            return
        with self._translated():
            try:
                obstore.copy(self._store, source, target)
            except FileNotFoundError as error:
                self._missing(error)
                raise MissingObject(f"{source} is not, or no longer, in {self.url}.") from None

    @contextmanager
    def writer(self, name: str, content_type: str) -> Iterator[Upload]:
        check_name(name)
        upload = Upload(lambda body: self._put(name, body, content_type), _PART_BYTES)
        try:
            yield upload
        except BaseException:
            upload.abort()
            raise
        upload.finish()

    def _put(self, name: str, body: bytes | Iterator[bytes], content_type: str) -> None:
        with self._translated():
            obstore.put(
                self._store,
                name,
                body,
                attributes={"Content-Type": content_type},
                use_multipart=not isinstance(body, bytes) or len(body) > _PUT_BYTES,
                chunk_size=_PART_BYTES,
                max_concurrency=_PARTS_AT_ONCE,
            )

    def list(self, prefix: str) -> Iterator[tuple[str, int]]:
        folder = check_prefix(prefix)
        with self._translated():
            for metas in obstore.list(self._store, folder or None, chunk_size=1000):
                for meta in metas:
                    yield meta["path"], meta["size"]

    def newest(self, prefix: str, limit: int) -> tuple[Sequence[str], int]:
        folder, count = check_prefix(prefix), 0
        found: Sequence[tuple[Any, str]] = []
        with self._translated():
            for metas in obstore.list(self._store, folder or None, chunk_size=1000):
                count += len(metas)
                found = heapq.nlargest(
                    limit, [*found, *((meta["last_modified"], meta["path"]) for meta in metas)]
                )
        return [name for _, name in found], count

    def delete(self, names: Iterable[str]) -> None:
        pending = iter(names)
        while chunk := [check_name(name) for name in islice(pending, _DELETE_AT_ONCE)]:
            with self._translated():
                self._delete(chunk)

    def _delete(self, names: Sequence[str]) -> None:
        try:
            obstore.delete(self._store, names)
        except FileNotFoundError as error:
            self._missing(error)
            # Google's and Azure's stores stop at one that is missing already.
            for name in names:
                try:
                    obstore.delete(self._store, name)
                except FileNotFoundError:
                    continue

    def delete_tree(self, prefix: str) -> None:
        folder = check_name(prefix.removesuffix("/"))
        self.delete([name for name, _ in self.list(folder)])

    def sweep_staging(self) -> int:
        """Nothing: an unfinished multipart upload is invisible, and a lifecycle rule's to remove."""
        return 0

    def outputs(self, folder: str) -> Sink:
        check_name(folder)

        def store(name: str, data: bytes, content_type: str) -> None:
            self._put(f"{folder}/{name}", data, content_type)

        return Sink(store, threads=self.concurrency, group=1)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Errors of obstore as ours, without their text: it holds URLs, which may be signed."""
        try:
            yield
        except (BaseError, OSError, ValueError) as error:
            raise self._translation(error) from None

    def _missing(self, error: FileNotFoundError) -> None:
        """Tell a missing bucket, which obstore reports as a missing object, from a missing object."""
        if "NoSuchBucket" in str(error) or "ContainerNotFound" in str(error):
            raise self._translation(error) from None

    def _translation(self, error: Exception) -> WorkerError:
        text = str(error)
        status = _STATUS.search(text)
        code = _CODE.search(text)
        reason = " ".join(found[1] for found in (status, code) if found)
        if _MACHINE_CREDENTIALS.search(text):
            return BucketUnavailable(
                f"No credentials for {self.url}: none in the environment, none from this machine's cloud."
            )
        if code and code[1] == "NoSuchBucket":
            return BucketRefused(f"{self.url} does not exist: create the bucket, or correct STORAGE_URL.")
        refused = isinstance(error, PermissionDeniedError | UnauthenticatedError)
        refused = refused or bool(status and status[1] in _REFUSING_STATUSES)
        if refused or (code and code[1] in _REFUSING_CODES):
            return BucketRefused(
                f"{self.url} refused our credentials ({reason or 'permission denied'}): "
                "check the key, its permissions, the region and the clock."
            )
        return BucketUnavailable(f"{self.url} did not answer as it should ({reason or _first_words(error)}).")


def _first_words(error: Exception) -> str:
    """What kind of error it is, with nothing of its text that could be a URL or a value."""
    text = str(error)
    for sign, words in (
        ("timed out", "it timed out"),
        ("error sending request", "no connection"),
        ("connection", "the connection broke"),
        ("Missing", "credentials are incomplete"),
        ("AllowHttp", "plain http is refused"),
    ):
        if sign in text:
            return words
    return type(error).__name__
