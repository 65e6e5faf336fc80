"""A bucket in a folder: plain files, durable before they are visible, or before what proves them is.

What proves something by being there goes through `workers.bucket.staging`. Outputs are written in place, relative to
their folder's descriptor: a rename, a stat or an fsync for each would double their cost, and one syncfs(2) at the
end makes them all durable (12,000 files of 1.4 KB on ext4: 0.1 s against 2.4 s). So it is with a group.
"""

import errno
import heapq
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from copy import copy
from functools import cached_property
from pathlib import Path
from stat import S_ISREG
from typing import Self
from urllib.parse import unquote, urlsplit

from workers.bucket.layout import WORK
from workers.bucket.protocol import (
    BucketRefused,
    DiskFull,
    MissingObject,
    NameTooLong,
    OutputSink,
    check_name,
    check_prefix,
    join,
)
from workers.bucket.staging import FOLDER as STAGING
from workers.bucket.staging import StagedFile, hold, link, make_parents, sweep, sync_all, sync_directory
from workers.errors import BucketUnavailable, SettingsError, WorkerError

_ABSENT = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NOT_ALLOWED = {errno.EACCES, errno.EPERM, errno.EROFS}
# How often to make a directory again that others remove, as empty, just when it is needed.
_ATTEMPTS = 50
# The longest name that a key becomes, with `@`, a number and `.json` behind its 193 characters.
_LONGEST_NAME = 210
_SHOWN = 60
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_MODE = 0o666  # less the umask, as open() does.


class Folder:
    """`Bucket` in the folder of a `file:///` URL, which is created where it is missing, if `make`."""

    concurrency = 1
    is_durable = True  # What is stored, by the time it is.

    def __init__(self, url: str, *, make: bool = True) -> None:
        parts = urlsplit(url)
        path = unquote(parts.path)
        if parts.netloc not in {"", "localhost"} or not path.startswith("/") or parts.query or parts.fragment:
            raise SettingsError("STORAGE_URL of a folder must be file:/// and an absolute path.")
        self.root = Path(os.path.normpath(path))
        self.url = self.root.as_uri()
        with self.translated():
            missing = [folder for folder in (self.root, *self.root.parents) if not folder.exists()]
            if missing and not make:
                raise SettingsError(f"STORAGE_URL names {self.url}, which is not there: correct it.")
            with suppress(NotADirectoryError):
                for folder in reversed(missing):
                    folder.mkdir(exist_ok=True)
                    sync_directory(folder.parent)
        if not self.root.is_dir():
            raise SettingsError(f"STORAGE_URL must name a folder, and {self.url} is something else.")

    @cached_property
    def ignores_case(self) -> bool:
        with self.translated():
            probe = StagedFile(self.root, self.root / "probe", self.translated)
            try:
                return probe.path.with_name(probe.path.name.swapcase()).exists()
            finally:
                probe.discard()

    @property
    def remarks(self) -> Sequence[str]:
        """See `Bucket`. Looks at the file system each time."""
        found = []
        with self.translated():
            longest = os.pathconf(self.root, "PC_NAME_MAX")
            if 0 < longest < _LONGEST_NAME:
                found.append(
                    f"{self.url} takes names of up to {longest} bytes: a batch with a longer key can't be stored."
                )
            if not sync_directory(self.root):
                found.append(
                    f"{self.url} does not sync directories: what was committed just before the power fails may be lost."
                )
            with hold(self.root, self.root / "probe") as held:
                if not held:
                    found.append(
                        f"{self.url} has no locks: two workers at the very same moment may both replace an object."
                    )
        return found

    def get(self, name: str) -> bytes | None:
        path = self._path(name)
        with self.translated():
            try:
                return path.read_bytes()
            except _ABSENT:
                return None

    def size(self, name: str) -> int | None:
        path = self._path(name)
        with self.translated():
            try:
                found = path.stat()
            except _ABSENT:
                return None
        return found.st_size if S_ISREG(found.st_mode) else None

    def read(self, name: str, chunk: int = 256 << 10, start: int = 0) -> Iterator[bytes]:
        path = self._path(name)
        with self.translated():
            try:
                file = path.open("rb", buffering=0)
            except _ABSENT:
                raise MissingObject(f"{name} is not, or no longer, in {self.url}.") from None
        with file:
            file.seek(start)
            while True:
                with self.translated():
                    data = file.read(chunk)
                if not data:
                    return
                yield data

    def put(self, name: str, data: bytes, content_type: str) -> None:
        with self.writer(name, content_type) as writer:
            writer.write(data)

    def create(self, name: str, data: bytes, content_type: str) -> bool:  # noqa: ARG002 - files keep no type.
        try:
            with StagedFile(self.root, self._path(name), nullcontext, replaces=False) as staged:
                staged.write(data)
        except FileExistsError:
            return False
        except OSError as error:
            raise self.translation(error) from error
        return True

    def replace(self, name: str, old: bytes, new: bytes, content_type: str) -> bool:
        path = self._path(name)
        with self.translated(), hold(self.root, path):
            if self.get(name) != old:
                return False
            self.put(name, new, content_type)
        return True

    def creates_once(self, name: str) -> bool:
        """See `Bucket`."""
        with self.translated(), hold(self.root, self._path(name)) as held:
            return held

    def copy(self, source: str, target: str, content_type: str) -> None:
        origin, path = self._path(source), self._path(target)
        with self.translated():
            try:
                linked = link(self.root, origin, path, is_durable=self.is_durable)
            except _ABSENT:
                raise MissingObject(f"{source} is not, or no longer, in {self.url}.") from None
        if not linked:
            join(self, [source], target, content_type)

    def writer(self, name: str, content_type: str) -> StagedFile:  # noqa: ARG002 - files keep no type.
        return StagedFile(self.root, self._path(name), self.translated, is_durable=self.is_durable)

    def note(self, name: str, data: bytes, content_type: str) -> None:
        self._undurable().put(name, data, content_type)

    @contextmanager
    def group(self) -> Iterator[Self]:
        with self._synced(self.root):
            yield self._undurable()

    def _undurable(self) -> Self:
        other = copy(self)
        other.is_durable = False
        return other

    def list(self, prefix: str) -> Iterator[tuple[str, int]]:
        folder = check_prefix(prefix)
        with self.translated():
            yield from self._walk(folder + "/" if folder else "")

    def newest(self, prefix: str, limit: int) -> tuple[Sequence[str], int]:
        found: list[tuple[float, str]] = []
        for name, _ in self.list(prefix):
            with suppress(*_ABSENT), self.translated():
                found.append((self._path(name).stat().st_mtime, name))
        return [name for _, name in heapq.nlargest(limit, found)], len(found)

    def delete(self, names: Iterable[str]) -> None:
        for name in names:
            path = self._path(name)
            with self.translated(), suppress(*_ABSENT):
                path.unlink()

    def delete_tree(self, prefix: str) -> None:
        folder = self.root / check_name(prefix.removesuffix("/"))
        with self.translated():
            for _ in range(_ATTEMPTS):
                _remove_tree(folder)
                if not folder.exists():
                    break
            for parent in folder.relative_to(self.root).parents[:-1]:
                with suppress(OSError):
                    (self.root / parent).rmdir()
        self.sweep_staging()

    def sweep_staging(self) -> int:
        with self.translated():
            return sweep(self.root)

    @contextmanager
    def outputs(self, folder: str) -> Iterator[OutputSink]:
        path = self._path(folder)
        with self.translated():
            make_parents(self.root, path / "any")
        with self._synced(path) as descriptor:
            # One after the other: creating a file is so cheap that handing it to a thread costs half as much again.
            yield _Files(self, path, descriptor)

    @contextmanager
    def _synced(self, path: Path) -> Iterator[int]:
        """A directory's descriptor. What is written while it is open is durable at the end, if it has to be."""
        with self.translated():
            descriptor = os.open(path, _DIRECTORY)
        try:
            yield descriptor
            if self.is_durable:
                with self.translated():
                    sync_all(descriptor)
        finally:
            os.close(descriptor)

    @contextmanager
    def translated(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self.translation(error) from error

    def translation(self, error: OSError) -> WorkerError:
        """What an operating system's error means for the batch."""
        if error.errno in _NO_ROOM:
            return DiskFull(
                f"No room left in {self.url} ({error.strerror}): free space, then replay the batch."
            )
        if error.errno == errno.ENAMETOOLONG:
            name = "/".join(Path(str(error.filename2 or error.filename)).parts[-2:])
            shown = name if len(name) <= _SHOWN else f"{name[:_SHOWN]}…"
            return NameTooLong(
                f"{shown} is too long a name for {self.url}: shorten the key, or use another file system."
            )
        if error.errno in _NOT_ALLOWED:
            return BucketRefused(
                f"No permission to use {self.url} ({error.strerror}): let this user write there, "
                "or correct STORAGE_URL."
            )
        return BucketUnavailable(f"{self.url} did not answer as a folder should: {error.strerror}.")

    def _path(self, name: str) -> Path:
        return self.root / check_name(name)

    def _walk(self, prefix: str) -> Iterator[tuple[str, int]]:
        # What is listed below `_work/` is deleted; a batch's folder may well be a link to another disk.
        follow = prefix != f"{WORK}/" and not prefix.startswith(f"{WORK}/")
        if not follow and (self.root / prefix).is_symlink():
            return
        with suppress(*_ABSENT), os.scandir(self.root / prefix) as entries:
            for entry in entries:
                name = prefix + entry.name
                if entry.is_dir(follow_symlinks=follow):
                    if name != STAGING:
                        yield from self._walk(f"{name}/")
                    continue
                with suppress(FileNotFoundError):  # Deleted between being listed and being looked at.
                    yield name, entry.stat(follow_symlinks=follow).st_size


class _Files:
    """`OutputSink` of files below one directory, written in place: nobody reads them before the commit."""

    def __init__(self, folder: Folder, path: Path, descriptor: int) -> None:
        self._folder = folder
        self._path = path
        self._descriptor = descriptor

    def put(self, name: str, data: bytes, content_type: str) -> None:  # noqa: ARG002 - files keep no type.
        """See `OutputSink`."""
        check_name(name)
        try:
            try:
                file = os.open(name, _CREATE, _MODE, dir_fd=self._descriptor)
            except FileNotFoundError:
                make_parents(self._folder.root, self._path / name)
                file = os.open(name, _CREATE, _MODE, dir_fd=self._descriptor)
            try:
                written = os.write(file, data)
                while written < len(data):
                    written += os.write(file, data[written:])
            finally:
                os.close(file)
        except FileExistsError:
            self._replace_if_different(name, data)
        except OSError as error:
            raise self._folder.translation(error) from error

    def _replace_if_different(self, name: str, data: bytes) -> None:
        """Of a resumed run, or of another worker that is writing the same at this moment."""
        path = self._path / name
        with self._folder.translated():
            if path.read_bytes() == data:
                return
        name = path.relative_to(self._folder.root).as_posix()
        self._folder.put(name, data, "")


def _remove_tree(folder: Path) -> None:
    with suppress(FileNotFoundError):  # Another process removes the same, and was faster with a directory.
        for _, folders, files, descriptor in os.fwalk(folder, topdown=False):
            for name in files:
                with suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=descriptor)
            for name in folders:
                with suppress(OSError):
                    _remove_empty(name, descriptor)
    with suppress(OSError):
        _remove_empty(folder, None)


def _remove_empty(folder: Path | str, descriptor: int | None) -> None:
    """Remove a directory, or a link to one."""
    try:
        os.rmdir(folder, dir_fd=descriptor)
    except NotADirectoryError:
        os.unlink(folder, dir_fd=descriptor)
