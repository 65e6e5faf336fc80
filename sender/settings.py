"""The sender's view of the settings: a mapping in, checked once, frozen; secrets never show in a repr."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Self

from workers.bucket.opening import open_bucket
from workers.bucket.protocol import Bucket
from workers.contract import settings as declared
from workers.gemini.access import Access, Secret


@dataclass(frozen=True, slots=True)
class Settings:
    """`environment` is kept for the cloud's own credential variables, `display_name` is the pattern of the workers."""

    access: Access
    storage_url: str
    display_name: str
    environment: Mapping[str, str] = field(repr=False, hash=False, compare=False)

    @classmethod
    def load(cls, environment: Mapping[str, str]) -> Self:
        """Raises `WrongSetting`: one is missing or wrong; the sentence names it and never quotes a secret."""
        base_url = declared.GOOGLE_GEMINI_BASE_URL.read(environment).rstrip("/")
        return cls(
            access=Access(base_url, Secret(declared.api_key(environment))),
            storage_url=declared.STORAGE_URL.read(environment),
            display_name=declared.BATCH_DISPLAY_NAME.read(environment),
            environment=dict(environment),
        )

    def takes(self, display_name: str) -> bool:
        """Whether the workers process a batch that is called so, and do not leave it alone."""
        return fnmatchcase(display_name, self.display_name)

    def bucket(self) -> Bucket:
        """Raises `SettingsError`, `BucketRefused`."""
        return open_bucket(self.storage_url, self.environment)


def bucket_of(environment: Mapping[str, str]) -> Bucket:
    """The bucket alone, for who needs no key. Raises `WrongSetting`, `SettingsError`, `BucketRefused`."""
    return open_bucket(declared.STORAGE_URL.read(environment), environment)
