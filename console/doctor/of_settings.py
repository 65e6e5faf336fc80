"""Settings, the files that hold secrets, and versions: what can be seen without asking anybody."""

import platform
import re
import shlex
from importlib import metadata
from pathlib import Path

from console.doctor.check import Finding, failed, ok, warning
from console.doctor.place import Place
from workers.contract import environment, settings
from workers.contract.setting.reading import CREDENTIALS, WrongSetting
from workers.contract.settings import SETTINGS
from workers.gemini.access import Secret

_SECRET = re.compile(r"whsec_[A-Za-z0-9+/_-]{16,}={0,2}")
_SHOWN_LIBRARIES = ("redis", "rq", "httpx", "obstore", "starlette")
_ANYBODY_ELSE = 0o077


def of_settings(place: Place) -> Finding:
    """Every value obeys its rule, and what `serve` or `work` can't do without is there."""
    wrong = [*_wrong(place)]
    if wrong:
        return failed(" ".join(wrong))
    slips = dict.fromkeys(
        [*environment.slips(place.environment, "work"), *environment.slips(place.environment, "serve")]
    )
    if slips:
        return warning(" ".join(slips))
    roles = [role for role, here in (("serve", place.receives), ("work", place.works)) if here]
    return ok(f"All that {' and '.join(f'`{role}`' for role in roles)} must be told is set.")


def _wrong(place: Place) -> list[str]:
    found = []
    for setting in SETTINGS:
        # The file of signing secrets is not read as one secret: it may hold several, and be added to the variable.
        if setting is settings.WEBHOOK_SIGNING_SECRET:
            continue
        try:
            setting.find(place.environment)
        except WrongSetting as error:
            found.append(str(error))
    try:
        secrets = place.secrets.found()
    except WrongSetting as error:
        return [*found, str(error)]
    if place.receives and not secrets and not place.is_dynamic:
        found.append("The file of signing secrets holds none: register the webhook with --secret-file.")
    if not all(_is_signing_secret(secret) for secret in secrets):
        found.append(
            "A signing secret is not of the form whsec_…: copy it as `batch-receiver register` gave it."
        )
    if not (place.receives or place.works):
        found.append(
            "Neither WEBHOOK_SIGNING_SECRET, which `serve` needs, nor STORAGE_URL and GEMINI_API_KEY, which `work`"
            " needs, is set: run it in the environment of one of them."
        )
    return found + (_missing_for_work(place) if place.works and not found else [])


def _missing_for_work(place: Place) -> list[str]:
    found = []
    for read in (settings.STORAGE_URL.read, settings.api_key):
        try:
            read(place.environment)
        except WrongSetting as error:
            found.append(str(error))
    return found


def _is_signing_secret(secret: Secret) -> bool:
    return _SECRET.fullmatch(secret.reveal()) is not None


def of_files(place: Place) -> Finding:
    """Files with secrets in them are their owner's alone."""
    files = _files(place)
    open_to_others = [path for path in files if _mode(path) & _ANYBODY_ELSE]
    if open_to_others:
        paths = shlex.join(str(path) for path in open_to_others)
        return warning(f"Others than the owner may read {paths}: it holds secrets.", f"chmod 600 {paths}")
    if not files:
        return ok("No secret stands in a file.")
    return ok(f"{', '.join(str(path) for path in files)}: for the owner only.")


def _files(place: Place) -> list[Path]:
    names = [each.file_name for each in SETTINGS if each.is_secret]
    found = [
        Path(place.environment[name].strip()) for name in names if place.environment.get(name, "").strip()
    ]
    dotenv = place.folder / ".env"
    if dotenv.is_file() and _holds_a_secret(dotenv):
        found.append(dotenv)
    folder = place.environment.get(CREDENTIALS)
    # What systemd puts there is on no disk, and its modes are systemd's affair.
    return [path for path in dict.fromkeys(found) if path.is_file() and str(path.parent) != folder]


def _holds_a_secret(dotenv: Path) -> bool:
    try:
        values = environment.parse(dotenv.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, WrongSetting):
        return True  # To be on the safe side: what it says is not known.
    return any(values.get(each.name) for each in SETTINGS if each.is_secret)


def _mode(path: Path) -> int:
    try:
        return path.stat().st_mode
    except OSError:
        return 0


def of_versions(_: Place) -> Finding:
    """Never wrong; for whoever is asked for help."""
    libraries = ", ".join(f"{name} {metadata.version(name)}" for name in _SHOWN_LIBRARIES)
    return ok(
        f"batch-receiver {metadata.version('batch-receiver')}, Python {platform.python_version()}"
        f" on {platform.system()} {platform.machine()}, {libraries}."
    )
