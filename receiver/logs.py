"""Log lines: a constant event name with fields, and a limit on what a flood may write."""

import asyncio
import logging
import os
from collections import Counter

from workers.contract import logs
from workers.contract.logs import line
from workers.contract.settings import LOG_FORMAT

__all__ = ["Flood", "configure", "error", "info", "line", "logger", "warning"]

logger = logging.getLogger("receiver")
_told = logs.named("receiver")

_MAX_REASONS = 8


def configure() -> None:
    """Log to standard error, and keep uvicorn's own chatter about single requests out of it. Raises `WrongSetting`."""
    logs.configure(LOG_FORMAT.read(os.environ))
    # Below this uvicorn writes a line for every malformed request: anybody could fill the disk.
    logging.getLogger("uvicorn").setLevel(logging.ERROR)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    logging.getLogger("rq").setLevel(logging.WARNING)


def info(event: str, **fields: object) -> None:
    _told.info(event, **fields)


def warning(event: str, **fields: object) -> None:
    _told.warning(event, **fields)


def error(event: str, **fields: object) -> None:
    _told.error(event, **fields)


class Flood:
    """One event that strangers can cause: written at once, then at most once an interval, counted by reason."""

    def __init__(
        self,
        event: str,
        level: int = logging.WARNING,
        *,
        interval_seconds: float = 1.0,
        project: str | None = None,
    ) -> None:
        self._event = event
        self._level = level
        self._of = {"project": project} if project else {}
        self._interval_seconds = interval_seconds
        self._unsaid: Counter[str] = Counter()
        self._window: asyncio.TimerHandle | None = None

    def note(self, reason: str) -> None:
        """Count one. Called in an event loop, which writes what is left over at the interval's end."""
        if reason not in self._unsaid and len(self._unsaid) >= _MAX_REASONS:
            reason = "other"
        self._unsaid[reason] += 1
        if self._window is None:
            self._say()

    def _say(self) -> None:
        self._window = None
        if not self._unsaid:
            return
        first, *more = self._unsaid.most_common()
        reasons = {"reason": first[0]}
        if more:
            reasons = {"reasons": ", ".join(f"{reason}: {count}" for reason, count in (first, *more))}
        _told.log(self._level, self._event, count=self._unsaid.total(), **reasons, **self._of)
        self._unsaid.clear()
        self._window = asyncio.get_running_loop().call_later(self._interval_seconds, self._say)
