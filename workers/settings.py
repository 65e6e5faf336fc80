"""The workers' settings: the environment as a mapping, checked once, frozen; secrets never show in a repr."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import SplitResult, urlsplit

from workers.contract import PREFIX, PREFIX_FORM
from workers.errors import SettingsError
from workers.gemini.access import DEFAULT_BASE_URL, Secret, is_api_key, is_https_or_loopback

DEFAULT_REDIS_URL = "redis://127.0.0.1:6379/0"

_KNOWN_OUTPUTS = ("objects", "parquet")
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


@dataclass(frozen=True, slots=True)
class Settings:
    """What a worker needs to know. `environment` is kept for the cloud's own credential variables."""

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
    environment: Mapping[str, str] = field(repr=False, hash=False, compare=False)

    @classmethod
    def load(cls, environment: Mapping[str, str]) -> Self:
        """Check and freeze the settings.

        Raises:
            SettingsError: one is missing or wrong; the sentence names it and never quotes a secret.
        """
        key = environment.get("GEMINI_API_KEY") or environment.get("GOOGLE_API_KEY")
        if not key:
            raise SettingsError("GEMINI_API_KEY is not set: the workers fetch batches with it.")
        if not is_api_key(key):
            raise SettingsError("GEMINI_API_KEY holds a character that no API key has.")
        return cls(
            redis_url=redis_url(environment),
            queue_prefix=queue_prefix(environment),
            api_key=Secret(key),
            base_url=_base_url(environment),
            storage_url=storage_url(environment),
            outputs=_outputs(environment),
            display_name=environment.get("BATCH_DISPLAY_NAME") or "*",
            part_bytes=_size(environment, "PART_BYTES", 16 << 20),
            fanout_concurrency=_count(environment, "FANOUT_CONCURRENCY", None, least=1),
            reconcile_interval_seconds=_count(environment, "RECONCILE_INTERVAL_SECONDS", 900, least=0) or 0,
            reconcile_reenable=_switch(environment, "RECONCILE_REENABLE"),
            environment=dict(environment),
        )


def redis_url(environment: Mapping[str, str]) -> str:
    """`REDIS_URL`, or the default. Raises `SettingsError`."""
    url = environment.get("REDIS_URL") or DEFAULT_REDIS_URL
    parts = _parts(url)
    if parts is None or parts.scheme not in {"redis", "rediss", "unix"}:
        raise SettingsError("REDIS_URL must start with redis://, rediss:// or unix://.")
    return url


def queue_prefix(environment: Mapping[str, str]) -> str:
    """`QUEUE_PREFIX`, or the default. Raises `SettingsError`."""
    prefix = environment.get("QUEUE_PREFIX") or PREFIX
    if not PREFIX_FORM.fullmatch(prefix):
        raise SettingsError("QUEUE_PREFIX must be letters, digits, - and _, at most 64 of them.")
    return prefix


def storage_url(environment: Mapping[str, str]) -> str:
    """`STORAGE_URL`. Raises `SettingsError` where it is missing."""
    url = environment.get("STORAGE_URL", "")
    if not url:
        raise SettingsError(
            "STORAGE_URL is not set: say where results go, such as file:///srv/results or s3://bucket."
        )
    return url


def _base_url(environment: Mapping[str, str]) -> str:
    url = (environment.get("GOOGLE_GEMINI_BASE_URL") or DEFAULT_BASE_URL).rstrip("/")
    if not is_https_or_loopback(url):
        raise SettingsError("GOOGLE_GEMINI_BASE_URL must be https:// (plain http only on loopback).")
    return url


def _parts(url: str) -> SplitResult | None:
    """The parts of a URL; None where its host or its port can't be read."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return None
    return parts


def _outputs(environment: Mapping[str, str]) -> frozenset[str]:
    names = {name.strip() for name in (environment.get("OUTPUTS") or "objects").split(",") if name.strip()}
    if not names or not names.issubset(_KNOWN_OUTPUTS):
        raise SettingsError(
            f"OUTPUTS must be one or both of {', '.join(_KNOWN_OUTPUTS)}, separated by a comma."
        )
    return frozenset(names)


def _count(environment: Mapping[str, str], name: str, default: int | None, *, least: int) -> int | None:
    text = environment.get(name, "").strip()
    if not text:
        return default
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) < least:
        raise SettingsError(f"{name} must be a whole number of at least {least}.")
    return int(text)


def _switch(environment: Mapping[str, str], name: str) -> bool:
    text = environment.get(name, "").strip().lower() or "off"
    if text not in {"on", "off"}:
        raise SettingsError(f"{name} must be on or off.")
    return text == "on"


def _size(environment: Mapping[str, str], name: str, default: int) -> int:
    text = environment.get(name, "").strip().lower()
    if not text:
        return default
    found = re.fullmatch(r"([0-9]{1,12})\s*([kmg]?)(?:i?b)?", text)
    if not found or not int(found[1]):
        raise SettingsError(f"{name} must be a number of bytes, such as 16777216 or 16MiB.")
    return int(found[1]) * _UNITS[found[2]]
