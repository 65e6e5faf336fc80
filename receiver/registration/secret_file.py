"""The file of signing secrets, newest first, one a line: the registration writes, the receiver reads it.

A new content is written aside, synced and renamed, so a reader sees the old file or the new one and nothing
between. The file is readable by its owner alone from the moment it exists.
"""

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from receiver.errors import ReceiverError
from workers.gemini.access import Secret

_ROOM_BYTES = 4096


class SecretFileError(ReceiverError):
    """The file can't be read or written; the message is one sentence that names it."""


class ReservedFile:
    """A secret file about to be replaced: `secrets` is what it holds now, `replace` commits a new content."""

    def __init__(self, path: Path, folder: int, aside: Path, descriptor: int) -> None:
        self.secrets = read_secrets(path)
        self._path = path
        self._folder = folder
        self._aside = aside
        self._descriptor = descriptor

    def replace(self, secrets: Iterable[Secret]) -> None:
        """Make `secrets` the content of the file, once.

        Raises:
            SecretFileError: the file is as it was.
        """
        content = "".join(f"{secret.reveal()}\n" for secret in dict.fromkeys(secrets)).encode()
        try:
            os.pwrite(self._descriptor, content, 0)
            os.ftruncate(self._descriptor, len(content))
            os.fsync(self._descriptor)
            self._aside.rename(self._path)
            os.fsync(self._folder)
        except OSError as error:
            raise _unwritable(self._path, error) from error


@contextmanager
def reserve(path: Path) -> Iterator[ReservedFile]:
    """Find out now whether the file can be written later, when a secret that is shown only once is at hand.

    A file beside it is created and given room on the disk, and nobody else reserves a file of that folder
    until the end of the block. A symbolic link is followed. Run by root, the file will belong to the owner of
    the one it replaces, or else of the folder, so that a service account keeps reading it.

    Raises:
        SecretFileError: the folder is missing or not writable, the disk is full, the path is a folder, what
            is there is no text, or another process writes there at the moment.
    """
    target = Path(os.path.realpath(path))
    with contextlib.ExitStack() as stack:
        try:
            folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
            stack.callback(os.close, folder)
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # mkstemp opens with O_CREAT | O_EXCL and mode 0600, whatever the umask.
            descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
            stack.callback(os.close, descriptor)
            aside = Path(name)
            stack.callback(aside.unlink, missing_ok=True)
            if os.geteuid() == 0:
                owner = (target if target.exists() else target.parent).stat()
                os.fchown(descriptor, owner.st_uid, owner.st_gid)
            os.pwrite(descriptor, bytes(_ROOM_BYTES), 0)
            os.fsync(descriptor)
        except BlockingIOError as error:
            raise SecretFileError(f"Another process is writing in the folder of {path}.") from error
        except OSError as error:
            raise _unwritable(path, error) from error
        yield ReservedFile(target, folder, aside, descriptor)


def read_secrets(path: Path) -> list[Secret]:
    """The secrets in the file, in its order; none where there is no file.

    Raises:
        SecretFileError: it can't be read, or it is no text.
    """
    try:
        return [Secret(word) for word in path.read_text("ascii").split()]
    except FileNotFoundError:
        return []
    except UnicodeDecodeError:
        # The original error carries the file's content.
        raise SecretFileError(f"{path} is no file of secrets: it is not plain text.") from None
    except OSError as error:
        raise SecretFileError(f"{path} can't be read: {error.strerror}.") from error


def _unwritable(path: Path, error: OSError) -> SecretFileError:
    return SecretFileError(f"The secret can't be written to {path}: {error.strerror}.")
