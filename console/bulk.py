"""One action on many batches: an object with an id, progress, and a way to stop it."""

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from itertools import islice

import msgspec
from redis.exceptions import RedisError

from workers.contract import Announcement, Outcome, Queues, Trigger
from workers.contract.history import History
from workers.contract.redis_words import in_words

ACTIONS = {"replay": "Replay", "refetch": "Refetch"}
AT_ONCE = 50
_KEPT = 100
_RUNNING_AT_ONCE = 2


class Bulk(msgspec.Struct):
    """`state`: running, done, stopped or broken. `accepted` were enqueued, `duplicate` waited or ran already."""

    id: str
    action: str
    who: str
    filter: dict[str, str]
    total: int
    started_at: float
    state: str = "running"
    done: int = 0
    accepted: int = 0
    duplicate: int = 0
    ended_at: float | None = None
    trouble: str | None = None


class Busy(Exception):
    """As many run as may; the message is a sentence."""


class Bulks:
    """Those of this process."""

    def __init__(self, queues: Queues, history: History) -> None:
        self._queues = queues
        self._history = history
        self._lock = threading.Lock()
        self._runs: OrderedDict[str, Bulk] = OrderedDict()
        self._stopped: set[str] = set()

    def start(self, action: str, who: str, told: dict[str, str], batches: Sequence[str]) -> Bulk:
        """Begin. `told` is the filter as the URL says it. Raises `Busy` or `RedisError` before anything is done."""
        with self._lock:
            if sum(run.state == "running" for run in self._runs.values()) >= _RUNNING_AT_ONCE:
                raise Busy("Two bulk actions are running already: wait for one of them, or stop it.")
            run = Bulk(secrets.token_hex(6), action, who, told, len(batches), time.time())
            self._runs[run.id] = run
            if len(self._runs) > _KEPT:
                self._runs.popitem(last=False)
        try:
            self._history.act(
                who, f"bulk-{action}", bulk=run.id, batches=len(batches), filter=_in_words(told)
            )
        except RedisError as error:
            run.state, run.trouble = "broken", _away(error)
            raise
        threading.Thread(target=self._run, args=(run, batches), name=f"bulk-{run.id}", daemon=True).start()
        return run

    def get(self, name: str) -> Bulk | None:
        with self._lock:
            return self._runs.get(name)

    def newest(self, limit: int = 10) -> list[Bulk]:
        with self._lock:
            return [*islice(reversed(self._runs.values()), limit)]

    def stop(self, name: str) -> None:
        """After the group that it is at."""
        with self._lock:
            self._stopped.add(name)

    def close(self) -> None:
        with self._lock:
            self._stopped.update(self._runs)

    def _run(self, run: Bulk, batches: Sequence[str]) -> None:
        try:
            for first in range(0, len(batches), AT_ONCE):
                if run.id in self._stopped:
                    run.state = "stopped"
                    break
                group = batches[first : first + AT_ONCE]
                outcomes = self._queues.announce(
                    [Announcement(batch, Trigger.REPLAY, refetch=run.action == "refetch") for batch in group]
                )
                run.accepted += outcomes.count(Outcome.ACCEPTED)
                run.duplicate += outcomes.count(Outcome.DUPLICATE)
                run.done += len(group)
            else:
                run.state = "done"
        except RedisError as error:
            run.state, run.trouble = "broken", _away(error)
        run.ended_at = time.time()
        try:
            self._history.act(run.who, f"bulk-{run.action}-{run.state}", bulk=run.id, batches=run.done)
        except RedisError as error:
            run.trouble = run.trouble or _away(error)


def _away(error: RedisError) -> str:
    return f"Redis did not take it, {in_words(error)}: what is done stays done, start again for the rest."


def _in_words(told: dict[str, str]) -> str:
    return " ".join(f"{name}={value}" for name, value in told.items())
