"""What a check says: one sentence, how bad it is, and the command that mends it."""

from enum import StrEnum

import msgspec


class Status(StrEnum):
    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


class Finding(msgspec.Struct, frozen=True):
    """`message` is a sentence; `fix` an exact command for a shell, where there is one."""

    status: Status
    message: str
    fix: str | None = None


class Check(msgspec.Struct, frozen=True):
    """A finding under the name of its check."""

    name: str
    status: Status
    message: str
    fix: str | None


class Diagnosis(msgspec.Struct, frozen=True):
    """What `doctor --json` says. `ok`: nothing failed; there may be warnings."""

    ok: bool
    checks: list[Check]


def ok(message: str) -> Finding:
    return Finding(Status.OK, message)


def warning(message: str, fix: str | None = None) -> Finding:
    return Finding(Status.WARNING, message, fix)


def failed(message: str, fix: str | None = None) -> Finding:
    return Finding(Status.FAILED, message, fix)
