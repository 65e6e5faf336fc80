"""The console's view of the settings: a mapping in, checked once, frozen."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Self

from workers.contract import settings as declared
from workers.contract.setting.reading import WrongSetting
from workers.gemini.access import Secret

OPEN_TO_OTHERS = (
    "On {host} others than this machine can reach it: set CONSOLE_PASSWORD, or CONSOLE_TRUST_USER_HEADER behind a"
    " proxy that signs people in, or leave --host out."
)


@dataclass(frozen=True, slots=True)
class Settings:
    """`environment` is kept for the cloud's own credential variables, and for `doctor`."""

    redis_url: str = field(repr=False)
    queue_prefix: str
    storage_url: str
    password: Secret | None
    user_header: str | None
    read_only: bool
    environment: Mapping[str, str] = field(repr=False, hash=False, compare=False)

    @property
    def signs_in(self) -> bool:
        """Whether nobody gets in without saying who it is."""
        return self.password is not None or self.user_header is not None

    @classmethod
    def load(cls, environment: Mapping[str, str], host: str) -> Self:
        """Check and freeze the settings. Raises `WrongSetting`, also where `host` needs a password."""
        password = declared.CONSOLE_PASSWORD.find(environment)
        loaded = cls(
            redis_url=declared.REDIS_URL.read(environment),
            queue_prefix=declared.QUEUE_PREFIX.read(environment),
            storage_url=declared.STORAGE_URL.read(environment),
            password=Secret(password) if password else None,
            user_header=declared.CONSOLE_TRUST_USER_HEADER.find(environment),
            read_only=declared.CONSOLE_READ_ONLY.read(environment),
            environment=dict(environment),
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
