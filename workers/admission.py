"""Which projects `work` works for: those that can. What can never work in one of them keeps none of the others waiting.

Each is tried in a process of its own, as a bucket may hang; the only one before anything else begins. One that is
refused is said, is left out, so that its jobs wait and don't fail, and is tried again every minute. Settings that
change, a key's file among them, count at once.
"""

import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

from redis import Redis
from redis.exceptions import RedisError

from workers import contract, jobs, start
from workers.contract import Queues, logs
from workers.contract.history import DEFAULT_PROJECT
from workers.errors import SettingsError, WorkerError
from workers.settings import Settings

logger = logs.named("workers")

LOOK_SECONDS = 1.0
TRY_AGAIN_SECONDS = 60.0
# Who is not through by then begins later than the others.
_BEGIN_SECONDS = 10.0
_PAUSE_SECONDS = 0.02
_AWAITED = "Its bucket or Gemini did not answer yet."
_FORK = get_context("fork")


@dataclass(slots=True, eq=False)
class _Candidate:
    """A project, and what is known of whether it can be worked for."""

    settings: Settings
    is_ready: bool = False
    reason: str = ""
    """Why it is refused; empty while it is tried."""
    tried_at: float = float("-inf")
    trial: BaseProcess | None = None
    answer: Connection | None = field(default=None, repr=False)

    def begin(self) -> None:
        self.tried_at = time.monotonic()
        self.answer, child = _FORK.Pipe(duplex=False)
        self.trial = _FORK.Process(target=_try, args=(self.settings, child), name="trial", daemon=True)
        self.trial.start()
        child.close()

    def end(self) -> None:
        if self.trial is not None:
            self.trial.kill()
            self.trial.join()
        if self.answer is not None:
            self.answer.close()
        self.trial = self.answer = None

    def has_ended(self) -> bool:
        """Whether the trial is over; then `is_ready` or `reason` is new."""
        if self.answer is None or not self.answer.poll():
            return False
        try:
            self.reason = str(self.answer.recv())
        except EOFError:
            self.reason = "Its trial broke off."
        self.is_ready = not self.reason
        self.end()
        return True


def _try(settings: Settings, answer: Connection) -> None:
    try:
        start.check(settings)
    except WorkerError as error:
        answer.send(str(error))
    else:
        answer.send("")


class Admission:
    """The projects of an environment. `working` are those that can be worked for, and are prepared."""

    def __init__(self, environment: Mapping[str, str], connection: Redis, *, untried: bool = False) -> None:
        """`untried`: all of them can, for all we know. Raises `SettingsError` where a setting is wrong."""
        self._environment = dict(environment)
        self._connection = connection
        self._untried = untried
        self._all = [_Candidate(each) for each in Settings.load_all(environment)]
        self._complaint = ""
        self._looked_at = time.monotonic()
        self._noted_at = float("-inf")
        self.working: tuple[Settings, ...] = ()

    @property
    def is_one(self) -> bool:
        """Whether there is one project, which no file names."""
        return self._all[0].settings.project is None

    def shown(self) -> dict[str, object]:
        """What is in force, without a secret, for a log: the settings where there is one project, else the names."""
        if self.is_one:
            return self._all[0].settings.shown()
        return {"projects": _names(self.working)}

    def begin(self) -> None:
        """Find out who can be worked for. Raises `SettingsError` where nobody can."""
        if self.is_one and not self._untried:
            start.check(self._all[0].settings)
        if self.is_one:
            jobs.prepare(self._all[0].settings)
            self._all[0].is_ready = True
            self.working = (self._all[0].settings,)
            return
        self._start_trials()
        deadline = time.monotonic() + _BEGIN_SECONDS
        while any(each.trial for each in self._all):
            if time.monotonic() > deadline and any(each.is_ready for each in self._all):
                break
            self._hear()
            time.sleep(_PAUSE_SECONDS)
        self._take_on()
        if not self.working and not any(each.trial for each in self._all):
            first = self._all[0]
            raise SettingsError(f"No project can be worked for. {first.settings.project}: {first.reason}")

    def look_now(self) -> None:
        """At the next question, whenever the last look was."""
        self._looked_at = float("-inf")

    def has_changed(self) -> bool:
        """Look at the settings and the trials; whether `working` is another one now. To be asked again and again."""
        is_other = False
        if time.monotonic() - self._looked_at >= LOOK_SECONDS:
            self._looked_at = time.monotonic()
            is_other = self._read()
            is_other |= self._start_trials()
        is_other |= self._hear()
        self._note()
        if is_other:
            self._take_on()
        return is_other

    def end(self) -> None:
        for each in self._all:
            each.end()

    def _read(self) -> bool:
        """The settings as they are now; whether somebody who was worked for is gone or has other ones."""
        try:
            now = Settings.load_all(self._environment)
        except SettingsError as error:
            self._complain(str(error))
            return False
        self._complaint = ""
        before: dict[Settings, _Candidate] = {each.settings: each for each in self._all}
        if list(before) == list(now):
            return False
        self._all = [before.pop(each) if each in before else _Candidate(each) for each in now]
        for gone in before.values():
            gone.end()
        logger.info("projects_read", projects=_names(now))
        return any(each.is_ready for each in before.values())

    def _complain(self, reason: str) -> None:
        """Once, not every second."""
        if reason != self._complaint:
            self._complaint = reason
            logger.error("projects_broken", reason=reason, kept=_names(each.settings for each in self._all))

    def _start_trials(self) -> bool:
        """Begin those that are due. Whether anybody is let in without one."""
        now, waiting = time.monotonic(), [each for each in self._all if not each.is_ready]
        for each in waiting:
            if self._untried:
                each.is_ready = not each.reason
            elif each.trial is None and now - each.tried_at >= TRY_AGAIN_SECONDS:
                each.begin()
        return any(each.is_ready for each in waiting)

    def _hear(self) -> bool:
        """What became of the trials; whether anybody can be worked for who could not."""
        ended = [each for each in self._all if each.has_ended()]
        for each in ended:
            if not each.is_ready:
                self._leave_out(each)
        return any(each.is_ready for each in ended)

    def _take_on(self) -> None:
        jobs.forget_prepared()
        working = []
        for each in self._all:
            if each.is_ready:
                try:
                    jobs.prepare(each.settings)
                except WorkerError as error:
                    each.is_ready, each.reason, each.tried_at = False, str(error), time.monotonic()
                    self._leave_out(each)
                else:
                    working.append(each.settings)
                    logger.info("project_taken_on", **each.settings.shown())
                    with suppress(RedisError):
                        self._connection.delete(self._queues(each).left_out)
        self.working = tuple(working)

    def _leave_out(self, candidate: _Candidate) -> None:
        project, reason = _name(candidate.settings), candidate.reason
        logger.error("project_left_out", project=project, reason=reason)
        self._noted_at = float("-inf")

    def _note(self) -> None:
        """For `status`: who is left out, and why."""
        if time.monotonic() - self._noted_at < TRY_AGAIN_SECONDS:
            return
        with suppress(RedisError):
            for each in self._all:
                if not each.is_ready:
                    key = self._queues(each).left_out
                    self._connection.set(key, each.reason or _AWAITED, ex=int(2 * TRY_AGAIN_SECONDS))
            self._noted_at = time.monotonic()

    def _queues(self, candidate: _Candidate) -> Queues:
        return Queues(self._connection, candidate.settings.queue_prefix)


def _names(projects: Iterable[Settings]) -> str:
    return ",".join(map(_name, projects))


def _name(settings: Settings) -> str:
    return settings.project or DEFAULT_PROJECT


def left_out(queues: Queues) -> str | None:
    """Why a pool does not work for a project, if it said so lately."""
    said = queues.connection.get(queues.left_out)
    return contract.text(said) if said is not None else None
