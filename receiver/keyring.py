"""The keys as they are now: the settings' secrets, a file's that may change while we run, Google's public ones."""

import stat
import time
from collections.abc import Callable
from pathlib import Path

from receiver import logs
from receiver.errors import SettingsError, UnknownKey
from receiver.jwks import Jwks
from receiver.settings import Settings
from receiver.signatures import Headers, Keys, SigningSecret, Verified, parse_secrets, verify

LOOK_SECONDS = 1.0
_MAX_FILE_BYTES = 64 * 1024

# What tells one version of the file from another. Following symbolic links, so that Kubernetes's way of
# swapping the folder behind a link shows up as another inode.
_Stamp = tuple[int, int, int, int]


class SecretFile:
    """A file of secrets, looked at again when it is asked for, at most once in `LOOK_SECONDS`.

    A version that can't be read or understood keeps the secrets of the one before, and is logged as an error.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        """Raises SettingsError where the first version is missing or wrong."""
        self._path = path
        self._clock = clock
        self._looked_at = clock()
        try:
            self._stamp: _Stamp | None = _stamp(path)
            self._secrets = _read(path)
        except (OSError, ValueError) as error:
            raise SettingsError(f"WEBHOOK_SIGNING_SECRET_FILE is wrong: {_sentence(error)}.") from None
        if path.stat().st_mode & stat.S_IROTH:
            logs.warning(
                "secret_file_open", file=path, advice="every user of this machine can read it: chmod 600"
            )

    def secrets(self) -> tuple[SigningSecret, ...]:
        now = self._clock()
        if now - self._looked_at >= LOOK_SECONDS:
            self._looked_at = now
            self._look()
        return self._secrets

    def _look(self) -> None:
        try:
            stamp = _stamp(self._path)
            if stamp == self._stamp:
                return
            # Remembered before reading: a file written in between has another stamp, and is read again.
            self._stamp = stamp
            self._secrets = _read(self._path)
        except (OSError, ValueError) as error:
            if not isinstance(error, ValueError):
                self._stamp = None
            logs.error(
                "secret_file_broken", file=self._path, reason=_sentence(error), kept=len(self._secrets)
            )
        else:
            logs.info("secret_file_read", file=self._path, secrets=len(self._secrets))


class Keyring:
    """Verifies deliveries with whatever keys are valid at the moment."""

    def __init__(self, settings: Settings) -> None:
        """Raises SettingsError where the secret file is missing or wrong."""
        self._settings = settings
        self._file = SecretFile(settings.secret_file) if settings.secret_file else None
        self._jwks = Jwks(settings.jwks_url) if settings.jwks_url else None

    async def verify(self, headers: Headers, body: bytes, now: float) -> Verified:
        """`signatures.verify` with the keys of now; where newer public keys may help, once more with those.

        Raises:
            SignatureRefused: as `signatures.verify` does.
            KeysUnavailable: it takes a public key, and there are none to be had.
        """
        try:
            return verify(headers, body, now, self._keys())
        except UnknownKey:
            if self._jwks is None or not await self._jwks.renew():
                raise
        return verify(headers, body, now, self._keys())

    def close(self) -> None:
        if self._jwks is not None:
            self._jwks.close()

    def _keys(self) -> Keys:
        from_file = self._file.secrets() if self._file else ()
        return Keys(
            from_file + self._settings.secrets,
            self._settings.tolerance_seconds,
            self._jwks.keys if self._jwks else None,
            self._settings.audience,
        )


def _stamp(path: Path) -> _Stamp:
    status = path.stat()
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size


def _read(path: Path) -> tuple[SigningSecret, ...]:
    with path.open("rb") as file:
        content = file.read(_MAX_FILE_BYTES + 1)
    if len(content) > _MAX_FILE_BYTES:
        raise ValueError(f"it is larger than {_MAX_FILE_BYTES} bytes")
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise ValueError("it is not text") from None
    return parse_secrets(text)


def _sentence(error: OSError | ValueError) -> str:
    if isinstance(error, OSError):
        return f"it can't be read ({error.strerror or type(error).__name__})"
    return str(error)
