"""What surrounds a process: where settings come from, and the service manager that started it.

Settings: the environment, on top of credentials and a file `.env`; and what is likely a mistake.
"""

import os
import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import suppress
from difflib import SequenceMatcher
from io import StringIO
from pathlib import Path

from workers.contract.projects import OWN
from workers.contract.setting.reading import CREDENTIALS, WrongSetting, read_secret
from workers.contract.settings import GEMINI_API_KEY, GOOGLE_API_KEY, PROJECTS_FILE, SETTINGS, used_by

READY = "READY=1"
STOPPING = "STOPPING=1"
ALIVE = "WATCHDOG=1"

_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]*")
_ALIKE = 0.85
# Shorter names resemble each other too much, as PORT and HOST do.
_LEAST_CHARACTERS = 6


def read(folder: Path) -> dict[str, str]:
    """The process's environment on top of credentials that others read, and of `folder/.env` if there is one.

    Raises `WrongSetting`.
    """
    given = {**credentials(os.environ), **os.environ}
    try:
        text = (folder / ".env").read_text(encoding="utf-8")
    except FileNotFoundError:
        return given
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise WrongSetting(f"The file .env can't be read: {reason}.") from None
    return {**parse(text), **given}


def credentials(environment: Mapping[str, str]) -> dict[str, str]:
    """What systemd, or a container's secrets, put down as files that are named like variables.

    Secrets of ours stay in their files, and are read when they are needed; a bucket's (`AWS_SECRET_ACCESS_KEY`) are
    read by a library that knows variables alone. Raises `WrongSetting` where one can't be read.
    """
    folder = environment.get(CREDENTIALS)
    if not folder or not Path(folder).is_dir():
        return {}
    ours = {setting.name for setting in SETTINGS if setting.is_secret}
    return {
        path.name: read_secret(path, f"The credential {path.name}")
        for path in sorted(Path(folder).iterdir())
        if _VARIABLE.fullmatch(path.name) and path.name not in ours and path.is_file()
    }


def parse(text: str) -> dict[str, str]:
    """The values of a file as python-dotenv reads it.

    Raises `WrongSetting` with the number of a line that python-dotenv would leave out, never its text.
    """
    # Imported here: what is deployed has no such file.
    from dotenv import dotenv_values  # noqa: PLC0415
    from dotenv.parser import parse_stream  # noqa: PLC0415

    for binding in parse_stream(StringIO(text)):
        named = bool(binding.key) and "=" not in str(binding.key) and binding.value is not None
        if binding.error or (binding.key is not None and not named) or "\0" in binding.original.string:
            blank = len(binding.original.string) - len(binding.original.string.lstrip())
            line = binding.original.line + binding.original.string[:blank].count("\n")
            raise WrongSetting(f"Line {line} of .env is not of the form KEY=VALUE.")
    return {name: value or "" for name, value in dotenv_values(stream=StringIO(text)).items()}


def slips(environment: Mapping[str, str], command: str) -> Iterator[str]:
    """What in the environment is no error and yet probably not what was meant: a sentence each, without values."""
    if not used_by(command):
        return
    known = _known_names()
    for name in sorted(environment.keys() - known):
        meant = _resembled(name, known)
        if meant:
            yield f"{name} is no setting of ours and is ignored: {meant} is one."
    if PROJECTS_FILE.find(environment):
        for name in _not_heeded(environment):
            yield f"{name} is ignored: PROJECTS_FILE says it for each project."
    elif GEMINI_API_KEY in used_by(command) and _keys_differ(environment):
        yield "GOOGLE_API_KEY and GEMINI_API_KEY are both set and differ: GOOGLE_API_KEY counts."


def _known_names() -> set[str]:
    files = {setting.file_name for setting in SETTINGS if setting.is_secret}
    return {setting.name for setting in SETTINGS} | files


def _resembled(name: str, known: set[str]) -> str | None:
    """The name of ours that another one resembles most, if it does.

    With something put before it, as in RQ_REDIS_URL, it is the name of another program's setting.
    """
    if len(name) < _LEAST_CHARACTERS or any(name.endswith(f"_{each}") for each in known):
        return None
    matcher = SequenceMatcher(autojunk=False)
    matcher.set_seq2(name.upper())  # what it is given second is analysed only once
    closest, best = None, _ALIKE
    for each in sorted(known):
        matcher.set_seq1(each)
        # Two quick upper bounds first: an environment may have hundreds of names.
        if matcher.real_quick_ratio() >= best and matcher.quick_ratio() >= best and matcher.ratio() >= best:
            closest, best = each, matcher.ratio()
    return closest


def _not_heeded(environment: Mapping[str, str]) -> Iterator[str]:
    for setting in OWN:
        names = (setting.name, setting.file_name) if setting.is_secret else (setting.name,)
        yield from (name for name in names if environment.get(name, "").strip())


def _keys_differ(environment: Mapping[str, str]) -> bool:
    try:
        keys = {GOOGLE_API_KEY.find(environment), GEMINI_API_KEY.find(environment)}
    except WrongSetting:
        return False
    return len(keys - {None}) > 1


def notify(state: str) -> None:
    """Tell the service manager what it wants to be told, sd_notify(3). Where there is none, nothing happens."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):  # Linux's abstract namespace.
        address = "\0" + address[1:]
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.sendto(state.encode(), address)
