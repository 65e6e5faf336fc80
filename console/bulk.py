"""One action on many batches: an object with an id, progress, and a way to stop it."""

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby, islice

import msgspec
from redis.exceptions import RedisError

from console.actions import ACTIONS, done_to
from console.merged import Ref
from console.project import Project
from console.verifications import Verifications
from workers.contract.redis_words import in_words

_KEPT = 100
_RUNNING_AT_ONCE = 2
_MOST_BAD = 100


class Bulk(msgspec.Struct):
    """`state`: running, done, stopped or broken. `outcomes`: how many batches each thing became of.

    `bad` are the first of those that a verification found something wrong with.
    """

    id: str
    action: str
    who: str
    filter: dict[str, str]
    total: int
    started_at: float
    outcomes: dict[str, int]
    state: str = "running"
    done: int = 0
    bad: list[Ref] = []
    ended_at: float | None = None
    trouble: str | None = None


class Busy(Exception):
    """As many run as may; the message is a sentence."""


class Bulks:
    """Those of this process."""

    def __init__(self, projects: Mapping[str, Project], verifications: Verifications) -> None:
        self._projects = projects
        self._verifications = verifications
        self._lock = threading.Lock()
        self._runs: OrderedDict[str, Bulk] = OrderedDict()
        self._stopped: set[str] = set()
        self._at: dict[str, Ref] = {}

    def start(self, action: str, who: str, told: dict[str, str], refs: Sequence[Ref]) -> Bulk:
        """Begin. `told` is the filter as the URL says it. Raises `Busy` or `RedisError` before anything is done."""
        outcomes = dict.fromkeys(ACTIONS[action].outcomes, 0)
        with self._lock:
            if sum(run.state == "running" for run in self._runs.values()) >= _RUNNING_AT_ONCE:
                raise Busy("Two bulk actions are running already: wait for one of them, or stop it.")
            run = Bulk(secrets.token_hex(6), action, who, told, len(refs), time.time(), outcomes)
            self._runs[run.id] = run
            if len(self._runs) > _KEPT:
                self._runs.popitem(last=False)
        try:
            for project, of_project in _by_project(refs):
                self._projects[project].history.act(
                    who, f"bulk-{action}", bulk=run.id, batches=len(of_project), filter=_in_words(told)
                )
        except RedisError as error:
            run.state, run.trouble = "broken", _away(error)
            raise
        threading.Thread(target=self._run, args=(run, refs), name=f"bulk-{run.id}", daemon=True).start()
        return run

    def get(self, name: str) -> Bulk | None:
        with self._lock:
            return self._runs.get(name)

    def newest(self, limit: int = 10) -> list[Bulk]:
        with self._lock:
            return [*islice(reversed(self._runs.values()), limit)]

    def stop(self, run: Bulk, who: str) -> None:
        """After the group that it is at; a verification is ended. Raises `RedisError`."""
        with self._lock:
            self._stopped.add(run.id)
            at = self._at.get(run.id)
        if at is not None:
            if run.action == "verify":
                self._verifications.stop(at)
            self._projects[at.project].history.act(who, f"stop-{run.action}", bulk=run.id)

    def close(self) -> None:
        with self._lock:
            self._stopped.update(self._runs)

    def _run(self, run: Bulk, refs: Sequence[Ref]) -> None:
        told: dict[str, int] = {}
        try:
            for group in _groups(refs, ACTIONS[run.action].at_once):
                with self._lock:
                    self._at[run.id] = group[0]
                    if run.id in self._stopped:
                        run.state = "stopped"
                        break
                project = self._projects[group[0].project]
                for ref, outcome in done_to(group, run.action, project, self._verifications):
                    if run.id in self._stopped and outcome == "broken":
                        continue
                    run.outcomes[outcome] += 1
                    run.done += 1
                    if outcome in {"bad", "broken"} and len(run.bad) < _MOST_BAD:
                        run.bad.append(ref)
                    told[ref.project] = told.get(ref.project, 0) + 1
            else:
                run.state = "done"
        except RedisError as error:
            run.state, run.trouble = "broken", _away(error)
        except Exception as error:  # noqa: BLE001 - a thread's own end is seen by nobody
            run.state, run.trouble = "broken", f"It broke ({type(error).__name__}): please report it."
        run.ended_at = time.time()
        try:
            for name, _ in _by_project(refs):
                self._projects[name].history.act(
                    run.who, f"bulk-{run.action}-{run.state}", bulk=run.id, batches=told.get(name, 0)
                )
        except RedisError as error:
            run.trouble = run.trouble or _away(error)


def _by_project(refs: Sequence[Ref]) -> Iterator[tuple[str, list[Ref]]]:
    """They come project by project."""
    for project, group in groupby(refs, key=lambda ref: ref.project):
        yield project, [*group]


def _groups(refs: Sequence[Ref], most: int) -> Iterator[list[Ref]]:
    """At most so many at once, all of one project."""
    for _, of_project in _by_project(refs):
        for first in range(0, len(of_project), most):
            yield of_project[first : first + most]


def _away(error: RedisError) -> str:
    return f"Redis did not take it, {in_words(error)}: what is done stays done, start again for the rest."


def _in_words(told: dict[str, str]) -> str:
    return " ".join(f"{name}={value}" for name, value in told.items())
