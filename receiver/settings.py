"""The receiver's settings: read from a mapping, checked once, frozen, with no secret in their repr."""

import ipaddress
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from receiver.errors import SettingsError
from receiver.signatures import SigningSecret, parse_secrets
from workers.contract import PREFIX, PREFIX_FORM

GOOGLE_JWKS_URL = "https://generativelanguage.googleapis.com/.well-known/jwks.json"

_PATH = re.compile(r"/[A-Za-z0-9._~/-]{1,255}")
_TAKEN_PATHS = frozenset({"/healthz", "/readyz"})
_REDIS_SCHEMES = frozenset({"redis", "rediss", "unix"})


@dataclass(frozen=True, slots=True)
class Settings:
    """`jwks_url` is None where dynamic webhooks are off."""

    redis_url: str = field(repr=False)
    queue_prefix: str
    secrets: tuple[SigningSecret, ...]
    secret_file: Path | None
    jwks_url: str | None
    audience: str | None
    path: str
    tolerance_seconds: int
    max_body_bytes: int


def read_environment(folder: Path) -> dict[str, str]:
    """The process's environment on top of what `folder/.env` says, if there is one."""
    try:
        text = (folder / ".env").read_text(encoding="utf-8")
    except FileNotFoundError:
        return dict(os.environ)
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError("The file .env can't be read as UTF-8 text.") from error
    return {**parse_env(text), **os.environ}


def parse_env(text: str) -> dict[str, str]:
    """`KEY=VALUE` lines; `#` begins a comment line, one pair of quotes around a value is taken off.

    Raises SettingsError with the line's number, never its text.
    """
    values = {}
    for number, row in enumerate(text.splitlines(), start=1):
        stripped = row.strip().removeprefix("export ")
        if not stripped or stripped.startswith("#"):
            continue
        name, equals, value = stripped.partition("=")
        if not equals or not name.strip().isidentifier():
            raise SettingsError(f"Line {number} of .env is not of the form KEY=VALUE.")
        value = value.strip()
        if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
            value = value[1:-1]
        values[name.strip()] = value
    return values


def load(environment: Mapping[str, str]) -> Settings:
    """Check everything at once; the first thing wrong is a SettingsError of one sentence that names it."""
    secret_text = environment.get("WEBHOOK_SIGNING_SECRET", "").strip()
    secret_file = environment.get("WEBHOOK_SIGNING_SECRET_FILE", "").strip()
    dynamic = _choice(environment, "WEBHOOK_DYNAMIC", {"off": False, "on": True})
    if not secret_text and not secret_file and not dynamic:
        raise SettingsError(
            "WEBHOOK_SIGNING_SECRET is missing: set it, or WEBHOOK_SIGNING_SECRET_FILE, to the whsec_… secret"
            " that `batch-receiver register` gave you."
        )
    return Settings(
        redis_url=_checked(environment, "REDIS_URL", "redis://127.0.0.1:6379/0", _redis_url),
        queue_prefix=_checked(environment, "QUEUE_PREFIX", PREFIX, _prefix),
        secrets=_secrets(secret_text) if secret_text else (),
        secret_file=Path(secret_file) if secret_file else None,
        jwks_url=_checked(environment, "WEBHOOK_JWKS_URL", GOOGLE_JWKS_URL, _jwks_url) if dynamic else None,
        audience=environment.get("WEBHOOK_AUDIENCE", "").strip() or None,
        path=_checked(environment, "WEBHOOK_PATH", "/webhooks/gemini", _path),
        tolerance_seconds=_whole(environment, "WEBHOOK_TOLERANCE_SECONDS", 300, least=1, most=86_400),
        max_body_bytes=_whole(environment, "WEBHOOK_MAX_BODY_BYTES", 262_144, least=1024, most=1 << 26),
    )


def _secrets(text: str) -> tuple[SigningSecret, ...]:
    try:
        return parse_secrets(text)
    except ValueError as error:
        raise SettingsError(f"WEBHOOK_SIGNING_SECRET is wrong: {error}.") from None


def _choice(environment: Mapping[str, str], name: str, choices: Mapping[str, bool]) -> bool:
    text = environment.get(name, "").strip().lower() or next(iter(choices))
    if text not in choices:
        raise SettingsError(f"{name} must be {' or '.join(choices)}.")
    return choices[text]


def _whole(environment: Mapping[str, str], name: str, default: int, *, least: int, most: int) -> int:
    text = environment.get(name, "").strip()
    if not text:
        return default
    if not re.fullmatch(r"[0-9]{1,12}", text) or not least <= int(text) <= most:
        raise SettingsError(f"{name} must be a whole number from {least} to {most}.")
    return int(text)


def _checked(
    environment: Mapping[str, str], name: str, default: str, complaint: Callable[[str], str | None]
) -> str:
    text = environment.get(name, "").strip() or default
    try:
        problem = complaint(text)
    except ValueError:
        problem = "is not a URL"
    if problem:
        raise SettingsError(f"{name} {problem}.")
    return text


def _redis_url(text: str) -> str | None:
    parts = urlsplit(text)
    if parts.scheme not in _REDIS_SCHEMES:
        return "must begin with redis://, rediss:// or unix://"
    _ = parts.port  # raises ValueError for a port that is no number
    return None


def _prefix(text: str) -> str | None:
    return None if PREFIX_FORM.fullmatch(text) else "must be letters, digits, - and _, at most 64 of them"


def _jwks_url(text: str) -> str | None:
    parts = urlsplit(text)
    if parts.scheme == "https" and parts.hostname:
        return None
    if parts.scheme == "http" and _is_loopback(parts.hostname):
        return None
    return "must be an https address (plain http only on this machine)"


def _is_loopback(host: str | None) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


def _path(text: str) -> str | None:
    if not _PATH.fullmatch(text):
        return "must begin with / and hold only letters, digits, and . _ ~ / -"
    if text in _TAKEN_PATHS:
        return "must not be one of the health paths"
    return None
