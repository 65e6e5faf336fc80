"""The receiver's view of the settings: read from a mapping, checked once, frozen, with no secret in its repr."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from receiver.errors import SettingsError
from receiver.signatures import SigningSecret, parse_secrets
from workers.contract import projects
from workers.contract import settings as declared
from workers.contract.setting.kinds import Address
from workers.contract.setting.reading import PROJECT, WrongSetting


@dataclass(frozen=True, slots=True)
class Settings:
    """One project's. `project` is None where no file names any, `jwks_url` where dynamic webhooks are off."""

    project: str | None
    redis_url: str = field(repr=False)
    queue_prefix: str
    secrets: tuple[SigningSecret, ...]
    secret_file: Path | None
    jwks_url: str | None
    audience: str | None
    path: str
    tolerance_seconds: int
    max_body_bytes: int
    metrics_address: Address | None


def load(environment: Mapping[str, str]) -> Settings:
    """Check everything at once; the first thing wrong is a SettingsError of one sentence that names it."""
    try:
        return _load(environment)
    except WrongSetting as error:
        raise SettingsError(str(error)) from None


def load_all(environment: Mapping[str, str]) -> tuple[Settings, ...]:
    """Those of every project that `PROJECTS_FILE` names, or of the one there is. Raises SettingsError."""
    try:
        return tuple(_load(each.environment) for each in projects.load(environment))
    except WrongSetting as error:
        raise SettingsError(str(error)) from None


def gemini(environment: Mapping[str, str]) -> tuple[str, str]:
    """Where Gemini is, and the API key: all that the registration reads. Raises SettingsError."""
    try:
        return declared.GOOGLE_GEMINI_BASE_URL.read(environment), declared.api_key(environment)
    except WrongSetting as error:
        raise SettingsError(str(error)) from None


def _load(environment: Mapping[str, str]) -> Settings:
    secret_text = environment.get(declared.WEBHOOK_SIGNING_SECRET.name, "").strip()
    secret_file = _secret_file(environment, given=bool(secret_text))
    dynamic = declared.WEBHOOK_DYNAMIC.read(environment)
    project = environment.get(PROJECT)
    if not secret_text and not secret_file and not dynamic:
        if project:
            raise SettingsError(
                f"signing_secret_file of project {project} is not set: name the file that"
                f" `batch-receiver register --project {project} --secret-file …` wrote."
            )
        raise SettingsError(
            "WEBHOOK_SIGNING_SECRET is missing: set it, or WEBHOOK_SIGNING_SECRET_FILE, to the whsec_… secret"
            " that `batch-receiver register` gave you."
        )
    return Settings(
        project=project,
        redis_url=declared.REDIS_URL.read(environment),
        queue_prefix=declared.QUEUE_PREFIX.read(environment),
        secrets=_secrets(secret_text) if secret_text else (),
        secret_file=secret_file,
        jwks_url=declared.WEBHOOK_JWKS_URL.read(environment) if dynamic else None,
        audience=declared.WEBHOOK_AUDIENCE.find(environment),
        path=declared.WEBHOOK_PATH.read(environment),
        tolerance_seconds=declared.WEBHOOK_TOLERANCE_SECONDS.read(environment),
        max_body_bytes=declared.WEBHOOK_MAX_BODY_BYTES.read(environment),
        metrics_address=declared.METRICS_ADDRESS.find(environment),
    )


def _secret_file(environment: Mapping[str, str], *, given: bool) -> Path | None:
    """A file that is watched, beside secrets that are `given` too; else what systemd has put down."""
    named = declared.WEBHOOK_SIGNING_SECRET_FILE.find(environment)
    if named:
        return Path(named)
    return None if given else declared.WEBHOOK_SIGNING_SECRET.credential(environment)


def _secrets(text: str) -> tuple[SigningSecret, ...]:
    try:
        return parse_secrets(text)
    except ValueError as error:
        raise SettingsError(f"WEBHOOK_SIGNING_SECRET is wrong: {error}.") from None
