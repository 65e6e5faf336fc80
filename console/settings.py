"""The console's view of the settings: a mapping in, checked once, frozen."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Self

from workers.contract import projects
from workers.contract import settings as declared
from workers.contract.projects import DEFAULT, Project
from workers.contract.setting.reading import PROJECT, WrongSetting
from workers.gemini.access import Secret

OPEN_TO_OTHERS = (
    "On {host} others than this machine can reach it: set CONSOLE_PASSWORD, or CONSOLE_TRUST_USER_HEADER behind a"
    " proxy that signs people in, or leave --host out."
)


@dataclass(frozen=True, slots=True)
class ProjectSettings:
    """Those of one project. `environment` is kept for the cloud's own credential variables, and for `doctor`.

    `storage_url` is None where it is not set and other projects are shown all the same.
    """

    name: str
    queue_prefix: str
    storage_url: str | None
    environment: Mapping[str, str] = field(repr=False, hash=False, compare=False)

    @classmethod
    def of(cls, project: Project, *, is_alone: bool) -> Self:
        environment = project.environment
        return cls(
            # A command that was told which project is meant runs in its environment, and knows of no other.
            name=environment.get(PROJECT, DEFAULT),
            queue_prefix=declared.QUEUE_PREFIX.read(environment),
            storage_url=(declared.STORAGE_URL.read if is_alone else declared.STORAGE_URL.find)(environment),
            environment=dict(environment),
        )


@dataclass(frozen=True, slots=True)
class Settings:
    """What is the console's own, and of each project that it shows."""

    redis_url: str = field(repr=False)
    password: Secret | None
    user_header: str | None
    read_only: bool
    projects: tuple[ProjectSettings, ...]

    @property
    def signs_in(self) -> bool:
        """Whether nobody gets in without saying who it is."""
        return self.password is not None or self.user_header is not None

    @classmethod
    def load(cls, environment: Mapping[str, str], host: str) -> Self:
        """Check and freeze the settings. Raises `WrongSetting`, also where `host` needs a password."""
        password = declared.CONSOLE_PASSWORD.find(environment)
        known = projects.load(environment)
        loaded = cls(
            redis_url=declared.REDIS_URL.read(environment),
            password=Secret(password) if password else None,
            user_header=declared.CONSOLE_TRUST_USER_HEADER.find(environment),
            read_only=declared.CONSOLE_READ_ONLY.read(environment),
            projects=tuple(ProjectSettings.of(each, is_alone=len(known) == 1) for each in known),
        )
        if not is_loopback(host) and not loaded.signs_in:
            raise WrongSetting(OPEN_TO_OTHERS.format(host=host))
        return loaded


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens there."""
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
