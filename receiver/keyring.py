"""The keys as they are now: the settings' secrets, a file's that may change while we run, Google's public ones."""

import os
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


class SecretFile:
    """A file of secrets, looked at again when it is asked for, at most once in `LOOK_SECONDS`.

    A version that can't be read or understood keeps the secrets of the one before, and is logged as an error.
    """

    def __init__(
        self,
        path: Path,
        clock: Callable[[], float] = time.monotonic,
        called: str = "WEBHOOK_SIGNING_SECRET_FILE",
    ) -> None:
        """Raises SettingsError where the first version is missing or wrong."""
        self._path = path
        self._clock = clock
        self._looked_at = clock()
        try:
            self._content: bytes | None = _read(path)
            self._secrets = _parse(self._content)
        except (OSError, ValueError) as error:
            raise SettingsError(f"{called} is wrong: {_sentence(error)}.") from None
        if is_open(path):
            logs.warning(
                "secret_file_open", file=path, advice="every user of this machine can read it: chmod 600"
            )

    def secrets(self) -> tuple[SigningSecret, ...]:
        now = self._clock()
        if now - self._looked_at >= LOOK_SECONDS:
            self._looked_at = now
            self.look()
        return self._secrets

    def look(self) -> None:
        """Read the file now. Its content is compared, as times and sizes can stay what they were."""
        try:
            content = _read(self._path)
            if content == self._content:
                return
            self._content = content
            self._secrets = _parse(content)
        except (OSError, ValueError) as error:
            if isinstance(error, OSError):
                self._content = None
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
        of = f"signing_secret_file of project {settings.project}" if settings.project else ""
        file = settings.secret_file
        self._file = (SecretFile(file, called=of) if of else SecretFile(file)) if file else None
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

    def secrets(self) -> tuple[SigningSecret, ...]:
        """Those that are valid at the moment."""
        return (self._file.secrets() if self._file else ()) + self._settings.secrets

    def reload(self) -> None:
        """Look at the file at once instead of within a second."""
        if self._file is not None:
            self._file.look()
        of = {"project": self._settings.project} if self._settings.project else {}
        logs.info("reloaded", secrets=len(self.secrets()), **of)

    def close(self) -> None:
        if self._jwks is not None:
            self._jwks.close()

    def _keys(self) -> Keys:
        return Keys(
            self.secrets(),
            self._settings.tolerance_seconds,
            self._jwks.keys if self._jwks else None,
            self._settings.audience,
        )


def is_open(path: Path) -> bool:
    """Whether every user of this machine can read a file, as far as its owner could change that.

    A read-only mount and a volume of Kubernetes (whose files stand in a folder `..<time>` behind a link) belong to one
    container, and their modes are set elsewhere.
    """
    if not path.stat().st_mode & stat.S_IROTH:
        return False
    if os.statvfs(path).f_flag & os.ST_RDONLY:
        return False
    return not any(part.startswith("..") for part in path.resolve().parts)


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        content = file.read(_MAX_FILE_BYTES + 1)
    if len(content) > _MAX_FILE_BYTES:
        raise ValueError(f"it is larger than {_MAX_FILE_BYTES} bytes")
    return content


def _parse(content: bytes) -> tuple[SigningSecret, ...]:
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise ValueError("it is not text") from None
    return parse_secrets(text)


def _sentence(error: OSError | ValueError) -> str:
    if isinstance(error, OSError):
        return f"it can't be read ({error.strerror or type(error).__name__})"
    return str(error)
