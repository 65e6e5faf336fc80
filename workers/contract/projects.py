"""Several Gemini projects of one deployment: a file that names them, and what the settings of each one are.

A project is an environment: the one that its processes would be given if there were no other project. So whatever
reads a setting needs to know nothing of projects. Nothing here opens a secret's file.
"""

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from workers.contract.announcements import parse_batch_id
from workers.contract.setting.reading import CREDENTIALS, PROJECT, Setting, WrongSetting
from workers.contract.settings import (
    GEMINI_API_KEY,
    GOOGLE_API_KEY,
    PROJECTS_FILE,
    QUEUE_PREFIX,
    SETTINGS,
    STORAGE_URL,
    WEBHOOK_PATH,
    WEBHOOK_SIGNING_SECRET,
    WEBHOOK_SIGNING_SECRET_FILE,
)

DEFAULT = "default"
"""The project that there is without a file. In a file it keeps that one's queues, jobs and path."""

OWN: tuple[Setting[Any], ...] = (
    *(WEBHOOK_SIGNING_SECRET, WEBHOOK_SIGNING_SECRET_FILE, WEBHOOK_PATH),
    *(GOOGLE_API_KEY, GEMINI_API_KEY, STORAGE_URL),
)
"""What tells projects apart: never another's, nor that of all."""

_NAME = re.compile(r"[a-z0-9]{1,32}")
# `batches/<id>` is a batch, and no batch of a project.
_TAKEN = frozenset({"batches"})
_MAX_FILE_BYTES = 1 << 20
_KEYS: dict[str, Setting[Any]] = {each.project_key: each for each in SETTINGS if each.project_key}


class NotClear(WrongSetting):
    """A sentence: which project is meant has to be said."""


@dataclass(frozen=True, slots=True)
class Project:
    """`environment` has the settings of this project alone, under their usual names."""

    name: str
    environment: Mapping[str, str] = field(repr=False)


def load(environment: Mapping[str, str]) -> tuple[Project, ...]:
    """The projects that `PROJECTS_FILE` names, or the one that the environment is itself.

    Raises:
        WrongSetting: one sentence about the first thing that is wrong in the file.
    """
    name = PROJECTS_FILE.find(environment)
    if name is None:
        return (Project(DEFAULT, environment),)
    path = Path(name)
    return parse(read(path), path.parent, environment)


def read(path: Path) -> bytes:
    """The content of a file of projects. Raises `WrongSetting`."""
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
        raise WrongSetting(f"PROJECTS_FILE can't be read: {reason}.") from None
    if len(content) > _MAX_FILE_BYTES:
        raise WrongSetting(f"PROJECTS_FILE is larger than {_MAX_FILE_BYTES} bytes.")
    return content


def parse(content: bytes, folder: Path, environment: Mapping[str, str]) -> tuple[Project, ...]:
    """The projects of a file that stands in `folder`. Raises `WrongSetting`."""
    try:
        document = tomllib.loads(content.decode())
    except UnicodeDecodeError:
        raise WrongSetting("PROJECTS_FILE is no TOML: it is not UTF-8 text.") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        where = re.search(r"\(at .*\)", str(error))
        raise WrongSetting(f"PROJECTS_FILE is no TOML {where[0] if where else ''}".rstrip() + ".") from None
    others = sorted(document.keys() - {"projects"})
    if others:
        raise WrongSetting(f"PROJECTS_FILE holds {others[0]!r}: a project is a table [projects.NAME].")
    tables = document.get("projects")
    if not isinstance(tables, dict) or not tables:
        raise WrongSetting("PROJECTS_FILE names no project: a project is a table [projects.NAME].")
    shared = _shared(environment)
    found = tuple(_project(name, table, folder, shared) for name, table in tables.items())
    _tell_apart(found)
    return found


def choose(
    projects: Iterable[Project], name: str | None = None, batch: str | None = None
) -> tuple[Project, str | None]:
    """The project that a command is about, and the batch without it.

    Args:
        projects: of which there is at least one.
        name: as an option names it.
        batch: `batches/<id>`, the bare id, or either with `NAME/` before it.

    Raises:
        NotClear: there are several, and none is named.
        WrongSetting: two different ones are named, or there is none of that name.
    """
    known = {project.name: project for project in projects}
    before, slash, bare = (batch or "").partition("/")
    is_named = before in known or (len(known) > 1 and before not in _TAKEN)
    if slash and is_named and parse_batch_id(bare):
        if name not in {None, before}:
            raise WrongSetting(f"The batch is said to be of project {before}, and the project to be {name}.")
        name, batch = before, bare
    names = ", ".join(sorted(known))
    if name is None and len(known) > 1:
        raise NotClear(f"Which project is meant? Say --project NAME with one of {names}.")
    if name is not None and name not in known:
        raise WrongSetting(f"There is no project {name!r}: the projects are {names}.")
    return known[name] if name is not None else next(iter(known.values())), batch


def _shared(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without what is each project's own, wherever that may stand."""
    shared = dict(environment)
    folder = shared.pop(CREDENTIALS, "")
    shared.pop(PROJECTS_FILE.name)
    for setting in SETTINGS:
        if setting in OWN:
            shared.pop(setting.name, None)
            shared.pop(setting.file_name, None)
        elif setting.is_secret and setting.name not in shared and (Path(folder) / setting.name).exists():
            # Of systemd's credentials only those stay that all projects share.
            shared.setdefault(setting.file_name, str(Path(folder) / setting.name))
    return shared


def _project(name: str, table: object, folder: Path, shared: Mapping[str, str]) -> Project:
    if not _NAME.fullmatch(name) or name in _TAKEN:
        raise WrongSetting(
            f"PROJECTS_FILE: {name!r} can't name a project: a name is 1 to 32 of a-z and 0-9, and not batches."
        )
    if not isinstance(table, dict):
        raise WrongSetting(f"PROJECTS_FILE: project {name} must be a table [projects.{name}].")
    unknown = sorted(table.keys() - _KEYS.keys())
    if unknown:
        raise WrongSetting(
            f"PROJECTS_FILE: {unknown[0]!r} of project {name} is no key; those are {', '.join(sorted(_KEYS))}."
        )
    environment = {**shared, PROJECT: name}
    if name != DEFAULT:
        environment[WEBHOOK_PATH.name] = f"/webhooks/{name}"
        environment[QUEUE_PREFIX.name] = f"{QUEUE_PREFIX.read(shared)}-project-{name}"
    for key, value in table.items():
        environment.pop(_KEYS[key].file_name, None)
        environment.pop(_KEYS[key].name, None)
        environment.update(_said(name, key, value, folder))
    project = Project(name, environment)
    for setting in (QUEUE_PREFIX, *(each for key, each in _KEYS.items() if not key.endswith("_file"))):
        setting.find(environment)
    return project


def _said(project: str, key: str, value: object, folder: Path) -> dict[str, str]:
    """A key of a project as the variable that stands for it."""
    setting = _KEYS[key]
    if isinstance(value, list) and value and all(isinstance(each, str) for each in value):
        value = ",".join(value)
    if isinstance(value, bool) or not isinstance(value, str | int) or not str(value).strip():
        raise WrongSetting(f"PROJECTS_FILE: {key} of project {project} must be a text.")
    text = str(value)
    if setting.is_secret and key.endswith("_file"):
        return {setting.file_name: str(folder / text)}
    return {setting.name: str(folder / text) if setting is WEBHOOK_SIGNING_SECRET_FILE else text}


def _tell_apart(projects: Iterable[Project]) -> None:
    """Raises `WrongSetting` where two projects share a path, or where results go."""
    for one, other in combinations(projects, 2):
        both = f"PROJECTS_FILE: projects {one.name} and {other.name}"
        paths = {WEBHOOK_PATH.read(each.environment).rstrip("/") for each in (one, other)}
        if len(paths) == 1:
            raise WrongSetting(f"{both} share the path {paths.pop()}: give each its own.")
        places = [_place(STORAGE_URL.find(each.environment)) for each in (one, other)]
        if None not in places and _is_inside(*map(tuple, places)):  # type: ignore[arg-type]
            raise WrongSetting(f"{both} share a storage, or one's is inside the other's: give each its own.")


def _place(url: str | None) -> tuple[str, ...] | None:
    """Where a storage is, step by step."""
    if url is None:
        return None
    parts = urlsplit(url)
    if parts.scheme == "file":
        return ("file", *Path(unquote(parts.path)).resolve().parts)
    return (parts.scheme, parts.netloc, *(part for part in parts.path.split("/") if part))


def _is_inside(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    shorter = min(len(one), len(other))
    return one[:shorter] == other[:shorter]
