"""A setting: where it is found, what it is called, and what is said where it is missing or wrong."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from workers.contract.setting.kinds import Kind

T = TypeVar("T")

# Where systemd puts the files of LoadCredential= (systemd.exec(5)).
CREDENTIALS = "CREDENTIALS_DIRECTORY"
# Names the project in an environment that is one project's of several.
PROJECT = "BATCH_RECEIVER_PROJECT"

_MAX_SECRET_BYTES = 64 * 1024


class WrongSetting(ValueError):
    """One sentence that names the setting and quotes no secret."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting(Generic[T]):
    """`used_by` are commands, `default` is written as a user would, `about` is one sentence without its end.

    A secret may also stand in a file that `<name>_FILE` or systemd's credentials name. `missing` says what to do where
    there must be a value and is none. `project_key` is what it, or its file, is called in a file of projects.
    """

    name: str
    used_by: tuple[str, ...]
    kind: Kind[T]
    about: str
    default: str | None = None
    missing: str = ""
    is_secret: bool = False
    project_key: str = ""

    def read(self, environment: Mapping[str, str]) -> T:
        """The value, or the default. Raises `WrongSetting` where it breaks its rule, or there is neither."""
        found = self.find(environment)
        if found is None:
            raise WrongSetting(f"{self._called(environment)} is not set: {self.missing}.")
        return found

    def find(self, environment: Mapping[str, str]) -> T | None:
        """As `read`, and None where there is neither a value nor a default."""
        text = self._given(environment)
        if not text.strip():
            if self.default is None:
                return None
            text = self.default
        try:
            return self.kind.parse(text if self.kind.exact else text.strip())
        except (ValueError, KeyError):
            raise WrongSetting(f"{self._called(environment)} {self.kind.rule}.") from None

    @property
    def in_short(self) -> str:
        """`about` for a terminal, with the default, and where else a secret may stand."""
        plain = self.about.replace("`", "")
        default = f" Default: {self.default}" if self.default else ""
        return (
            f"{plain}.{default}"
            if not self.is_secret
            else f"{plain}; or name a file: {self.file_name}.{default}"
        )

    @property
    def file_name(self) -> str:
        """The variable that names a file with the value."""
        return f"{self.name}_FILE"

    def credential(self, environment: Mapping[str, str]) -> Path | None:
        """Where systemd has put the value, if it has."""
        folder = environment.get(CREDENTIALS)
        path = Path(folder, self.name) if folder else None
        return path if path and path.exists() else None

    def _given(self, environment: Mapping[str, str]) -> str:
        text = environment.get(self.name, "")
        if not self.is_secret:
            return text
        file = environment.get(self.file_name, "").strip()
        if file and text.strip():
            raise WrongSetting(f"{self.name} and {self.file_name} are both set: leave one of them out.")
        if text.strip():
            return text
        path = Path(file) if file else self.credential(environment)
        called = self._called(environment, self.file_name)
        return read_secret(path, called if file else f"The credential {self.name}") if path else ""

    def _called(self, environment: Mapping[str, str], name: str = "") -> str:
        """What a person knows it by."""
        project = environment.get(PROJECT)
        return (
            f"{self.project_key} of project {project}" if project and self.project_key else name or self.name
        )


def read_secret(path: Path, what: str) -> str:
    """The text of a file with one secret in it, without one line end. Raises `WrongSetting`, which names it `what`."""
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_SECRET_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
        raise WrongSetting(f"{what} can't be read: {reason}.") from None
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise WrongSetting(f"{what} is no file of a secret: it is not text.") from None
    text = text.removesuffix("\n").removesuffix("\r")
    if not text.strip() or len(content) > _MAX_SECRET_BYTES:
        raise WrongSetting(
            f"{what} is no file of a secret: it is {'too large' if text.strip() else 'empty'}."
        )
    return text
