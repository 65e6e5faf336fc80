"""The workers' view of the settings: a mapping in, checked once, frozen; secrets never show in a repr."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from typing import Self, TypeVar

from workers.contract import projects
from workers.contract import settings as declared
from workers.contract.projects import Project
from workers.contract.setting.kinds import shown
from workers.contract.setting.reading import PROJECT, Setting, WrongSetting
from workers.errors import SettingsError
from workers.gemini.access import Secret

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Settings:
    """What a worker needs to know of a project, which is None where no file names any.

    `environment` is kept for the cloud's own credential variables.
    """

    project: str | None
    redis_url: str = field(repr=False)
    queue_prefix: str
    api_key: Secret
    base_url: str
    storage_url: str
    outputs: frozenset[str]
    display_name: str
    part_bytes: int
    fanout_concurrency: int | None
    reconcile_interval_seconds: int
    reconcile_reenable: bool
    heartbeat_url: str | None = field(repr=False)
    notify_url: str | None = field(repr=False)
    notify_secret: str | None = field(repr=False)
    environment: Mapping[str, str] = field(repr=False, hash=False, compare=False)

    @classmethod
    def load(cls, environment: Mapping[str, str]) -> Self:
        """Check and freeze the settings.

        Raises:
            SettingsError: one is missing or wrong; the sentence names it and never quotes a secret.
        """
        try:
            return cls._load(environment)
        except WrongSetting as error:
            raise SettingsError(str(error)) from None

    @classmethod
    def load_all(cls, environment: Mapping[str, str]) -> tuple[Self, ...]:
        """Those of every project that `PROJECTS_FILE` names, or of the one there is. Raises as `load` does."""
        return tuple(cls.load(project.environment) for project in projects_of(environment))

    @classmethod
    def _load(cls, environment: Mapping[str, str]) -> Self:
        notify_url = declared.NOTIFY_URL.find(environment)
        return cls(
            project=environment.get(PROJECT),
            redis_url=declared.REDIS_URL.read(environment),
            queue_prefix=declared.QUEUE_PREFIX.read(environment),
            api_key=Secret(declared.api_key(environment)),
            base_url=declared.GOOGLE_GEMINI_BASE_URL.read(environment),
            storage_url=declared.STORAGE_URL.read(environment),
            outputs=declared.OUTPUTS.read(environment),
            display_name=declared.BATCH_DISPLAY_NAME.read(environment),
            part_bytes=declared.PART_BYTES.read(environment),
            fanout_concurrency=declared.FANOUT_CONCURRENCY.find(environment),
            reconcile_interval_seconds=declared.RECONCILE_INTERVAL_SECONDS.read(environment),
            reconcile_reenable=declared.RECONCILE_REENABLE.read(environment),
            heartbeat_url=declared.HEARTBEAT_URL.find(environment),
            notify_url=notify_url,
            notify_secret=declared.NOTIFY_SECRET.read(environment) if notify_url else None,
            environment=dict(environment),
        )

    def shown(self) -> dict[str, object]:
        """What is in force, without a secret, for a log."""
        of = {"project": self.project} if self.project else {}
        return of | {
            "version": metadata.version("batch-receiver"),
            "redis": shown(self.redis_url),
            "queue_prefix": self.queue_prefix,
            "gemini": self.base_url,
            "storage": shown(self.storage_url),
            "outputs": ",".join(sorted(self.outputs)),
            "display_name": repr(self.display_name),
            "part_bytes": self.part_bytes,
            "fanout_concurrency": self.fanout_concurrency or "default",
            "reconcile_interval_seconds": self.reconcile_interval_seconds,
            "reconcile_reenable": "on" if self.reconcile_reenable else "off",
        }


def projects_of(environment: Mapping[str, str]) -> tuple[Project, ...]:
    """Those of `PROJECTS_FILE`, or the one there is. Raises `SettingsError`."""
    try:
        return projects.load(environment)
    except WrongSetting as error:
        raise SettingsError(str(error)) from None


def redis_url(environment: Mapping[str, str]) -> str:
    """`REDIS_URL`, or the default. Raises `SettingsError`."""
    return _read(declared.REDIS_URL, environment)


def queue_prefix(environment: Mapping[str, str]) -> str:
    """`QUEUE_PREFIX`, or the default. Raises `SettingsError`."""
    return _read(declared.QUEUE_PREFIX, environment)


def storage_url(environment: Mapping[str, str]) -> str:
    """`STORAGE_URL`. Raises `SettingsError` where it is missing."""
    return _read(declared.STORAGE_URL, environment)


def _read(setting: Setting[T], environment: Mapping[str, str]) -> T:
    try:
        return setting.read(environment)
    except WrongSetting as error:
        raise SettingsError(str(error)) from None
