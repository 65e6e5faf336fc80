"""Files that appear whole and durable, or not at all.

A file is written in `.staging/` of the root under a random name and a lock, synced, and renamed to its place;
then the directories on its path are synced. Whoever finds a staged file without a lock knows that its writer
was killed, without guessing by its age. (A file system that has no locks keeps such files.)

Errors are plain `OSError`s.
"""

import ctypes
import errno
import fcntl
import hashlib
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

FOLDER = ".staging"
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_MODE = 0o666  # less the umask, as open() does.
_BUFFER = 256 << 10
# What file systems without hard links answer; EIO is what shared folders of Docker Desktop say on FAT.
_NO_LINKS = frozenset(
    {
        errno.EPERM,
        errno.ENOTSUP,
        errno.EOPNOTSUPP,
        errno.ENOSYS,
        errno.EXDEV,
        errno.EIO,
        errno.EMLINK,
        errno.EINVAL,
    }
)
# What file systems that don't sync directories answer: CIFS before Linux 4.17, gocryptfs, some of FUSE.
_NO_SYNC = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EBADF})
# How often to make a directory again that others remove, as empty, just when it is needed.
_ATTEMPTS = 50


class StagedFile:
    """Appears at `target`, somewhere below `root`, when its block ends without an error.

    Args:
        root: an existing directory.
        target: missing directories above it are made.
        replaces: whether an existing target is replaced; else it stays, and the block ends in `FileExistsError`.
        is_durable: whether it survives a power cut from then on.
        translated: wraps every use of the file system, to turn an `OSError` into the caller's own error.
    """

    def __init__(
        self,
        root: Path,
        target: Path,
        translated: Callable[[], AbstractContextManager[None]],
        *,
        replaces: bool = True,
        is_durable: bool = True,
    ) -> None:
        self._root = root
        self._target = target
        self._translated = translated
        self._replaces = replaces
        self._is_durable = is_durable
        with translated():
            self._create()

    def _create(self) -> None:
        for _ in range(_ATTEMPTS):
            self.path = self._root / FOLDER / secrets.token_hex(16)
            try:
                self._file = os.fdopen(os.open(self.path, _CREATE, _MODE), "wb", buffering=_BUFFER)
            except FileNotFoundError:
                _make(self.path.parent)
                continue
            if _lock(self._file.fileno()) is not False and os.fstat(self._file.fileno()).st_nlink:
                return
            self._file.close()  # A sweep came between the creation and the lock.
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self.path))

    def write(self, data: bytes, /) -> None:
        with self._translated():
            self._file.write(data)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                with self._translated():
                    self._file.flush()
                    if self._is_durable:
                        os.fsync(self._file.fileno())
                    self._publish()
        finally:
            self.discard()

    def _publish(self) -> None:
        for attempt in range(_ATTEMPTS):
            try:
                make_parents(self._root, self._target)
                if self._replaces:
                    self.path.replace(self._target)
                else:
                    self._link()
            except FileNotFoundError:
                if attempt == _ATTEMPTS - 1:
                    raise
            else:
                break
        if self._is_durable:
            _sync_parents(self._root, self._target)

    def _link(self) -> None:
        try:
            self._target.hardlink_to(self.path)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            with hold(self._root, self._target):
                if self._target.exists():
                    raise FileExistsError(
                        errno.EEXIST, os.strerror(errno.EEXIST), str(self._target)
                    ) from None
                self.path.replace(self._target)

    def discard(self) -> None:
        """Remove what is still staged; nothing where it has been published."""
        with suppress(OSError):
            self.path.unlink(missing_ok=True)
        with suppress(OSError):
            self._file.close()
        with suppress(OSError):
            self.path.parent.rmdir()


@contextmanager
def hold(root: Path, target: Path) -> Iterator[bool]:
    """Keep others out of `target` while the block runs, if they ask too; False where the file system has no locks."""
    path = root / FOLDER / hashlib.sha256(os.fsencode(target)).hexdigest()[:32]
    while True:
        try:
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _MODE)
        except FileNotFoundError:
            _make(path.parent)
            continue
        held = _lock(file, wait=True)
        if not held or os.fstat(file).st_nlink:
            break
        os.close(file)  # Whoever had it has removed it.
    try:
        yield bool(held)
    finally:
        with suppress(OSError):
            path.unlink()
        os.close(file)
        with suppress(OSError):
            path.parent.rmdir()


def link(root: Path, source: Path, target: Path, *, is_durable: bool = True) -> bool:
    """Give a file that is durable already a second name, durable too when this returns if it has to be.

    Returns False where it can't be: there is another file of that name, or the file system has no hard links.

    Raises:
        FileNotFoundError: there is no `source`.
    """
    for attempt in range(_ATTEMPTS):
        make_parents(root, target)
        try:
            target.hardlink_to(source)
        except FileExistsError:
            if not target.samefile(source):
                return False
        except FileNotFoundError:
            if attempt == _ATTEMPTS - 1 or not source.exists():
                raise
            continue
        except OSError as error:
            if error.errno in _NO_LINKS:
                return False
            raise
        if is_durable:
            _sync_parents(root, target)
        return True
    raise AssertionError


def sweep(root: Path) -> int:
    """Remove the staged files below `root` whose writers are gone, and return how many there were."""
    swept = 0
    paths: list[Path] = []
    with suppress(FileNotFoundError):  # Others remove the folder as soon as it is empty.
        paths.extend((root / FOLDER).iterdir())
    for path in paths:
        with suppress(FileNotFoundError), path.open("rb") as file:
            if _lock(file.fileno()):
                path.unlink()
                swept += 1
    with suppress(OSError):
        (root / FOLDER).rmdir()
    return swept


def make_parents(root: Path, path: Path) -> None:
    """Make the missing directories above `path`; never `root` itself, whose disk may be away."""
    missing = []
    folder = path.parent
    while folder != root and not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for folder in reversed(missing):
        _make(folder)


def _sync_parents(root: Path, path: Path) -> None:
    """All of them up to the root: another process may have made one and not have synced it yet."""
    for parent in path.parents:
        sync_directory(parent)
        if parent == root:
            break


def sync_directory(directory: Path) -> bool:
    """Make what was created or renamed in it durable; False where the file system does not offer that."""
    descriptor = os.open(directory, _DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise
        return False
    else:
        return True
    finally:
        os.close(descriptor)


def sync_all(descriptor: int) -> None:
    """Make durable all that was written to the file system of `descriptor`, in one call where there is one.

    Linux's syncfs(2) also reports what failed to be written since the descriptor was opened.
    """
    library = ctypes.CDLL(None, use_errno=True)
    if not hasattr(library, "syncfs"):
        os.sync()
    elif library.syncfs(descriptor):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _make(folder: Path) -> None:
    with suppress(FileExistsError):  # Not exist_ok, which looks again and fails if it is gone by then.
        folder.mkdir()


def _lock(descriptor: int, *, wait: bool = False) -> bool | None:
    """Whether the lock is ours now; None where the file system has no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True
