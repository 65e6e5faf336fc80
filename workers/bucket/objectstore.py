"""A bucket in an object store: obstore's synchronous calls, from threads.

obstore's asyncio API may abort the interpreter at its exit. Names pass unchanged: obstore's `Path` neither decodes
nor encodes them (only the request line is encoded, and the server undoes that), so `outputs/a%2Fb.json` is
that very key.

What proves something is believed when it has been seen, not because a call said so; and what a store lacks (conditions,
deleting by the list, copying) is done in another way, found out by trying.
"""

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError

from workers.bucket.access import access
from workers.bucket.connections import Connections, version_of
from workers.bucket.protocol import MissingObject, check_name, check_prefix, join
from workers.bucket.reasons import (
    Lack,
    Lacking,
    Place,
    code_of,
    is_not_offered,
    is_panic,
    is_refused,
    may_heal,
    no_etag,
    translation,
)
from workers.bucket.sending import Sink, Upload
from workers.errors import BucketUnavailable

if TYPE_CHECKING:
    from obstore import ObjectMeta, PutMode, UpdateVersion
    from obstore.store import ObjectStore as Store

# To a store that answers in 30 ms, 64 connections put twice as much as 32; to one beside us, no less.
_CONCURRENCY = 64
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


class ObjectStore:
    """`Bucket` below the prefix of an `s3://`, `gs://` or `az://` URL."""

    ignores_case = False

    def __init__(self, url: str, env: Mapping[str, str], *, concurrency: int | None = None) -> None:
        settings = access(url, env)
        self.url = url
        self.concurrency = concurrency or _CONCURRENCY
        self._place = Place(url, urlsplit(url).scheme, settings.credentials, settings.addresses)
        self._stores = Connections(url, settings, self.concurrency + _PARTS_AT_ONCE)
        self._lacking = Lacking(url, settings.remarks)
        self.calls: Counter[tuple[str, str]] = Counter()  # what was done, and how it went

    @property
    def remarks(self) -> Sequence[str]:
        return self._lacking.remarks

    def get(self, name: str) -> bytes | None:
        check_name(name)
        with self._translated("read"):
            try:
                found = obstore.get(self._stores.patient, name)
                data = found.bytes().to_bytes()
            except FileNotFoundError as error:
                self._missing(error)
                return None
        self._of_a_store(found.meta)
        return data

    def size(self, name: str) -> int | None:
        check_name(name)
        with self._translated("read"):
            try:
                return self._of_a_store(obstore.head(self._stores.patient, name))["size"]
            except FileNotFoundError as error:
                self._missing(error)
                return None

    def read(self, name: str, chunk: int = 256 << 10, start: int = 0) -> Iterator[bytes]:
        """See `Bucket`. Ranges of 8 MiB, so that a slow reader never outlasts a request's timeout."""
        check_name(name)
        with self._translated("read"):
            try:
                meta = self._of_a_store(obstore.head(self._stores.patient, name))
            except FileNotFoundError:
                raise self._gone(name) from None
        for offset in range(start, meta["size"], _READ_BYTES):
            end = min(offset + _READ_BYTES, meta["size"])
            with self._translated("read"):
                try:
                    found = obstore.get(
                        self._stores.patient,
                        name,
                        options={"range": (offset, end), "if_match": meta["e_tag"]},
                    )
                    data = found.bytes().to_bytes()
                except FileNotFoundError:
                    raise self._gone(name) from None
            for position in range(0, len(data), chunk):
                yield data[position : position + chunk]

    def put(self, name: str, data: bytes, content_type: str) -> None:
        self._put(check_name(name), data, content_type)

    def create(self, name: str, data: bytes, content_type: str) -> bool:
        if self.get(name) is not None:
            return False
        self._put_if("create", name, data, content_type)
        seen = self.get(name)
        if seen is None:
            raise self._unseen(name)
        return seen == data

    def replace(self, name: str, old: bytes, new: bytes, content_type: str) -> bool:
        check_name(name)
        with self._translated("read"):
            try:
                found = obstore.get(self._stores.patient, name)
                version = version_of(self._of_a_store(found.meta))
                data = found.bytes().to_bytes()
            except FileNotFoundError as error:
                self._missing(error)
                return False
        if data != old:
            return False
        stored = self._put_if(version, name, new, content_type)
        seen = self.get(name)
        if seen != new and (seen == old or (stored and seen is None)):
            raise self._unseen(name)
        return seen == new

    def creates_once(self, name: str) -> bool:
        """See `Bucket`. The condition of a replacement is tried too."""
        outdated: UpdateVersion = {"e_tag": '"0"', "version": "1"}
        if self._put_if("create", name, b"", "") or self._put_if(outdated, name, b"", ""):
            self._lacking.note(Lack.CONDITIONS)
        return Lack.CONDITIONS not in self._lacking

    def _put_if(self, mode: "PutMode", name: str, data: bytes, content_type: str) -> bool:
        """Store the object if the condition holds, as the store says; where it knows none, in any case."""
        if Lack.CONDITIONS not in self._lacking and mode:
            kind = {"Content-Type": content_type}
            with self._translated("write"):
                try:
                    self._asked(lambda store: obstore.put(store, name, data, attributes=kind, mode=mode))
                except (AlreadyExistsError, PreconditionError):
                    return False
                except FileNotFoundError as error:
                    self._missing(error)
                    return False
                except BaseError as error:
                    if not is_not_offered(error):
                        raise
                else:
                    return True
            self._put(name, data, content_type)
            self._lacking.note(Lack.CONDITIONS)
            return True
        self._put(name, data, content_type)
        return True

    def copy(self, source: str, target: str, content_type: str) -> None:
        check_name(target)
        size = self.size(source)
        if size is None:
            raise self._gone(source)
        if size > _COPY_BYTES or Lack.COPYING in self._lacking:
            join(self, [source], target, content_type)
        elif not self._copy(source, target) or self.size(target) != size:
            # Some stores say yes and do nothing, and some look for a name with its % decoded.
            join(self, [source], target, content_type)
            self._lacking.note(Lack.COPYING)

    def _copy(self, source: str, target: str) -> bool:
        """Whether the store says that it copied."""
        with self._translated("write"):
            try:
                self._asked(lambda store: obstore.copy(store, source, target))
            except FileNotFoundError as error:
                self._missing(error)
                return False
            except BaseError as error:
                if not is_not_offered(error) and not is_refused(error):
                    raise
                return False
        return True

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
        with self._translated("write"):
            obstore.put(
                self._stores.patient,
                name,
                body,
                attributes={"Content-Type": content_type},
                use_multipart=not isinstance(body, bytes) or len(body) > _PUT_BYTES,
                chunk_size=_PART_BYTES,
                max_concurrency=_PARTS_AT_ONCE,
            )

    def list(self, prefix: str) -> Iterator[tuple[str, int]]:
        folder = check_prefix(prefix)
        with self._translated("list"):
            for metas in obstore.list(self._stores.patient, folder or None, chunk_size=1000):
                for meta in metas:
                    yield meta["path"], meta["size"]

    def newest(self, prefix: str, limit: int) -> tuple[Sequence[str], int]:
        folder, count = check_prefix(prefix), 0
        found: Sequence[tuple[datetime, str]] = []
        with self._translated("list"):
            for metas in obstore.list(self._stores.patient, folder or None, chunk_size=1000):
                count += len(metas)
                found = heapq.nlargest(
                    limit, [*found, *((meta["last_modified"], meta["path"]) for meta in metas)]
                )
        return [name for _, name in found], count

    def delete(self, names: Iterable[str]) -> None:
        pending = iter(names)
        while chunk := [check_name(name) for name in islice(pending, _DELETE_AT_ONCE)]:
            with self._translated("delete"):
                # Google's XML API knows no list; obstore would delete one by one, too, and look at nothing.
                if Lack.BULK_DELETION in self._lacking or self._place.scheme == "gs":
                    self._delete_singly(chunk)
                else:
                    self._delete(chunk)

    def _delete(self, names: Sequence[str]) -> None:
        try:
            self._asked(lambda store: obstore.delete(store, names))
        except FileNotFoundError as error:
            # Azure's stores stop at one that is missing already.
            self._missing(error)
            self._delete_singly(names)
        except BaseError as error:
            if self._place.scheme != "s3" or not (is_not_offered(error) or is_refused(error)):
                raise
            self._delete_singly(names)
            self._lacking.note(Lack.BULK_DELETION)

    def _delete_singly(self, names: Sequence[str]) -> None:
        store = self._stores.single if self._place.scheme == "s3" else self._stores.patient

        def delete(name: str) -> None:
            try:
                obstore.delete(store, name)
            except FileNotFoundError as error:
                self._missing(error)
            else:
                # The answer to a list names what is gone; to this one, any page with a 200 would do.
                if self.size(name) is not None:
                    raise BucketUnavailable(f"{name} is still in {self.url}: its deletion is tried again.")

        with ThreadPoolExecutor(self.concurrency) as pool:
            for _ in pool.map(delete, names):
                pass

    def delete_tree(self, prefix: str) -> None:
        folder = check_name(prefix.removesuffix("/"))
        self.delete([name for name, _ in self.list(folder)])

    def sweep_staging(self) -> int:
        """Nothing: an unfinished multipart upload is invisible, and a lifecycle rule's to remove."""
        return 0

    def note(self, name: str, data: bytes, content_type: str) -> None:
        self.put(name, data, content_type)

    def group(self) -> AbstractContextManager[Self]:
        return nullcontext(self)

    def outputs(self, folder: str) -> Sink:
        check_name(folder)

        def store(name: str, data: bytes, content_type: str) -> None:
            self._put(f"{folder}/{name}", data, content_type)

        return Sink(store, threads=self.concurrency, group=1)

    def _asked(self, call: Callable[["Store"], object]) -> None:
        """`call`, which may ask for what the store lacks; repeated only where that may heal."""
        try:
            call(self._stores.quick)
        except BaseError as error:
            if not may_heal(error):
                raise
            call(self._stores.patient)

    @contextmanager
    def _translated(self, doing: str) -> Iterator[None]:
        """Errors of obstore as ours, without their text: it holds URLs, which may be signed."""
        outcome = "error"
        try:
            yield
            outcome = "ok"
        except BaseException as error:
            if isinstance(error, BaseError | OSError | ValueError) or is_panic(error):
                raise translation(error, self._place, doing) from None
            raise
        finally:
            self.calls[doing, outcome] += 1

    def _missing(self, error: FileNotFoundError) -> None:
        """Tell a missing bucket, which obstore reports as a missing object, from a missing object."""
        if code_of(error) in {"NoSuchBucket", "ContainerNotFound"}:
            raise translation(error, self._place, "read") from None

    def _of_a_store(self, meta: "ObjectMeta") -> "ObjectMeta":
        """What comes with an ETag: a page of something in between, with a 200 too, has none."""
        if not meta["e_tag"]:
            raise no_etag(self._place)
        return meta

    def _gone(self, name: str) -> MissingObject:
        return MissingObject(f"{name} is not, or no longer, in {self.url}.")

    def _unseen(self, name: str) -> BucketUnavailable:
        return BucketUnavailable(f"{name} is not in {self.url} as it was to be stored: it is tried again.")
