"""What waits in Redis: two queues, job ids, function paths, and how a batch is announced.

Everything here begins with `QUEUE_PREFIX`, so that a database can be shared: nothing of others is scanned or touched.
"""

import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from redis import Redis
from redis.exceptions import WatchError
from rq import Queue
from rq.exceptions import NoSuchJobError
from rq.job import Job, JobStatus
from rq.serializers import JSONSerializer

from workers.contract import history
from workers.contract.announcements import Announced, Announcement, Outcome, Trigger, parse_batch_id
from workers.contract.history.states import text
from workers.contract.records import BLOCKING, DeletableJob, NewJob, put
from workers.contract.redis_client import ask, clock_of

PREFIX = "batch-receiver"

PROCESS_BATCH = "workers.jobs.process_batch"
FAN_OUT_PART = "workers.jobs.fan_out_part"
TELL = "workers.jobs.tell_downstream"

ANNOUNCEMENT_TTL_SECONDS = 45 * 86400  # Longer than any results live.

# What nobody but dynamic webhooks told of may be anybody's, so only so many of them wait at a time.
MAX_WAITING_STRANGERS = 1000

_T = TypeVar("_T")

# A running job's record changes every few seconds, so a second attempt is rare already.
_ATTEMPTS = 20


class Queues:
    """The two queues of one deployment, and all that is kept beside them.

    Args:
        connection: shared with whoever gave it.
        prefix: letters, digits, `-` and `_`.
    """

    def __init__(self, connection: Redis, prefix: str = PREFIX) -> None:
        self.connection = connection
        self.prefix = prefix
        self.names = (f"{prefix}-batches", f"{prefix}-parts")
        self.batches, self.parts = self.names
        self._history = history.Names(prefix)
        self._job_id = re.compile(
            rf"{re.escape(prefix)}-(?:batch-(?P<whole>.+)|part-(?P<cut>.+)-[0-9]{{5,}})", re.DOTALL
        )

    def queue(self, name: str) -> Queue:
        """One of `names`, with the JSON serializer (a pickle would run code of whoever can write to Redis)."""
        return Queue(name, connection=self.connection, serializer=JSONSerializer)

    def key(self, name: str) -> str:
        """A key of ours that is none of RQ's."""
        return f"{self.prefix}:{name}"

    @property
    def counters(self) -> str:
        """A hash: name, how often."""
        return self.key("counters")

    @property
    def jobs(self) -> str:
        """A set of the ids of all jobs there are, and of some that there were: RQ has no list of its own."""
        return self.key("jobs")

    @property
    def strangers(self) -> str:
        """A set of the batches that nothing but dynamic webhooks told of."""
        return self.key("strangers")

    @property
    def trouble(self) -> str:
        """Why the last job failed, where that was no single batch's fault, and none has succeeded since."""
        return self.key("trouble")

    @property
    def left_out(self) -> str:
        """Why a pool does not work for this project, if it said so lately."""
        return self.key("left_out")

    def announcement(self, batch: str) -> str:
        """A hash that outlives the job's record: one counter a trigger, `user_metadata`, `refetch`."""
        return self.key(f"announced:{batch}")

    def batch_job_id(self, batch: str) -> str:
        return f"{self.prefix}-batch-{batch}"

    def part_job_id(self, batch: str, part: int) -> str:
        return f"{self.prefix}-part-{batch}-{part:05d}"

    def batch_of(self, job_id: str) -> str | None:
        """The batch that a job id belongs to; None where it is not one of ours."""
        found = self._job_id.fullmatch(job_id)
        return parse_batch_id(found["whole"] or found["cut"]) if found else None

    def batch_of_notice(self, job_id: str) -> str | None:
        """The batch whose commit a job tells of; None where it tells of none."""
        found = re.fullmatch(rf"{re.escape(self.prefix)}-notice-(.+)-r[0-9]+", job_id, re.DOTALL)
        return parse_batch_id(found[1]) if found else None

    def is_batch_job(self, job_id: str) -> bool:
        """Whether it is the job that looks at a batch, and not one of a part."""
        return job_id.startswith(self.batch_job_id(""))

    def now(self) -> float:
        """Seconds since 1970 by Redis's clock, the one that all machines share."""
        return clock_of(self.connection)

    def count(self, name: str, amount: int = 1) -> None:
        self.connection.hincrby(self.counters, name, amount)

    def announce(self, announcements: Sequence[Announcement]) -> list[Outcome]:
        """Record announcements and enqueue a job for each batch that has none waiting or running.

        All of them are written in one transaction, so a returned outcome is in Redis and nothing is half done. A job
        that waits for its next try is hurried by whoever can't wait for it; a timer can.

        Raises:
            redis.exceptions.RedisError: nothing was recorded; the caller must not acknowledge.
        """
        if not announcements:
            return []
        first: dict[str, Announcement] = {}
        for announcement in announcements:
            first.setdefault(announcement.batch, announcement)
        job_ids = {self.batch_job_id(batch): batch for batch in first}
        impatient = {self.batch_job_id(a.batch) for a in announcements if a.trigger is not Trigger.RECONCILE}

        def write(pipe: Any) -> list[Outcome]:
            refs = {self._history.ref(batch): batch for batch in first}
            free, (scores,) = self._watch_free(
                pipe, job_ids, impatient, ("ZMSCORE", self._history.index(), *refs)
            )
            known = self._states(
                {ref: refs[ref] for ref, at in zip(refs, scores, strict=True) if at is not None}
            )
            outcomes = self._outcomes(announcements, free)
            pipe.multi()
            full = {
                a.batch for a, outcome in zip(announcements, outcomes, strict=True) if outcome is Outcome.FULL
            }
            jobs = [
                (self._look(batch, first[batch]), free[job_id])
                for job_id, batch in job_ids.items()
                if job_id in free and batch not in full
            ]
            self._put(pipe, jobs)
            now, told = time.time(), []
            for announcement, outcome in zip(announcements, outcomes, strict=True):
                if outcome is not Outcome.FULL:
                    told.append(history.Told(announcement, outcome, known.get(announcement.batch), now))
                    known.setdefault(announcement.batch, history.BatchState.ANNOUNCED)
            self._note(pipe, [each.announcement for each in told])
            history.announced(pipe, self._history, told)
            return outcomes

        return self._transaction(write)

    def enqueue_part(self, batch: str, number: int, *, hurry: bool = False) -> bool:
        """Enqueue the fan-out of a part unless it waits or runs; whether it was enqueued.

        `hurry`: also where it waits for its next try. Raises `redis.exceptions.RedisError`.
        """
        new = NewJob(self.parts, FAN_OUT_PART, (batch, number), self.part_job_id(batch, number))
        return self._enqueue(new, hurry=hurry)

    def enqueue_notice(self, batch: str, revision: int) -> bool:
        """Have a commit told downstream unless that waits or runs. As `enqueue_part`."""
        job_id = f"{self.prefix}-notice-{batch}-r{revision}"
        return self._enqueue(NewJob(self.batches, TELL, (batch, revision), job_id), hurry=False)

    def announced(self, batch: str) -> Announced:
        """What has been announced about a batch and not yet been settled."""
        reply = self.connection.hgetall(self.announcement(batch))
        fields = {text(name): text(value) for name, value in reply.items()}
        counts = {trigger: int(fields[trigger]) for trigger in Trigger if trigger in fields}
        return Announced(
            frozenset(counts), sum(counts.values()), fields.get("user_metadata"), "refetch" in fields
        )

    def settle(self, batch: str, seen: Announced) -> bool:
        """Forget what was announced, unless there is news since `seen`. Returns whether it was forgotten."""
        key = self.announcement(batch)

        def write(pipe: Any) -> bool:
            pipe.watch(key)
            if self.announced(batch).count > seen.count:
                return False
            pipe.multi()
            pipe.delete(key)
            pipe.srem(self.strangers, batch)
            return True

        return self._transaction(write)

    def look_again(self, batch: str, seen: int = 0) -> bool:
        """Enqueue a batch that was announced after `seen` announcements; for the end of its job, however it ended."""
        if self.announced(batch).count <= seen:
            return False
        return self._enqueue(self._look(batch), hurry=True)

    def jobs_of(self, batch: str) -> list[str]:
        """The ids of a batch's jobs, as far as there are records of them: its own first, then those of parts."""
        return sorted(job_id for job_id in self.job_ids() if self.batch_of(job_id) == batch)

    def job_ids(self) -> set[str]:
        """Those of all jobs there are, and of some that there were."""
        return {text(member) for member in self.connection.sscan_iter(self.jobs, count=1000)}

    def _enqueue(self, new: NewJob, *, hurry: bool) -> bool:
        def write(pipe: Any) -> bool:
            free, _ = self._watch_free(pipe, [new.job_id], [new.job_id] if hurry else ())
            if new.job_id not in free:
                return False
            pipe.multi()
            self._put(pipe, [(new, free[new.job_id])])
            return True

        return self._transaction(write)

    def _put(self, pipe: Any, jobs: Sequence[tuple[NewJob, Job | None]]) -> None:
        if jobs:
            put(pipe, jobs)
            pipe.sadd(self.jobs, *(new.job_id for new, _ in jobs))

    def _look(self, batch: str, announcement: Announcement | None = None) -> NewJob:
        """The job that looks at a batch."""
        meta = {"trigger": announcement.trigger.value} if announcement else None
        urgent = announcement is not None and announcement.urgent
        return NewJob(self.batches, PROCESS_BATCH, (batch,), self.batch_job_id(batch), meta, at_front=urgent)

    def _transaction(self, write: Callable[[Any], _T]) -> _T:
        """Have `write` watch, look and queue commands; once more where what it watched changed meanwhile."""
        with self.connection.pipeline() as pipe:
            for attempt in range(_ATTEMPTS):
                try:
                    result = write(pipe)
                    pipe.execute()
                except WatchError:
                    if attempt + 1 == _ATTEMPTS:
                        raise
                else:
                    return result
        raise AssertionError

    def _watch_free(
        self, pipe: Any, job_ids: Iterable[str], impatient: Iterable[str], *asked: tuple[str, ...]
    ) -> tuple[dict[str, Job | None], list[Any]]:
        """Watch jobs; those that block nothing, each with its old record (failed, stopped) or None; replies to `asked`.

        A job that is scheduled for another try blocks nothing for the `impatient`.
        """
        job_ids = list(job_ids)
        keys = [Job.key_for(job_id) for job_id in job_ids]
        _, found, *replies = ask(pipe, ("WATCH", *keys), ("EXISTS", *keys), *asked)
        if not found:  # As it is for most that are announced.
            return dict.fromkeys(job_ids), replies
        with self.connection.pipeline(transaction=False) as reader:
            for key in keys:
                reader.hget(key, "status")
            statuses = reader.execute()
        free: dict[str, Job | None] = {}
        for job_id, status in zip(job_ids, statuses, strict=True):
            if status is None:
                free[job_id] = None
            elif text(status) not in BLOCKING or (
                text(status) == JobStatus.SCHEDULED and job_id in impatient
            ):
                try:
                    free[job_id] = DeletableJob.fetch(
                        job_id, connection=self.connection, serializer=JSONSerializer
                    )
                except NoSuchJobError:
                    free[job_id] = None
        return free, replies

    def _strangers_without_room(self, announcements: Sequence[Announcement]) -> set[str]:
        """Batches that only dynamic webhooks tell of, and for which there is no room: few of them may wait."""
        vouched = {a.batch for a in announcements if a.trigger is not Trigger.DYNAMIC}
        doubtful = list(dict.fromkeys(a.batch for a in announcements if a.batch not in vouched))
        if not doubtful:
            return set()
        with self.connection.pipeline(transaction=False) as reader:
            reader.scard(self.strangers)
            for batch in doubtful:
                reader.exists(self.announcement(batch))
            waiting, *known = reader.execute()
        new = [batch for batch, is_known in zip(doubtful, known, strict=True) if not is_known]
        return set(new[max(0, MAX_WAITING_STRANGERS - waiting) :])

    def _states(self, refs: Mapping[str, str]) -> dict[str, str]:
        """Where these batches are as far as the history knows; `refs` has the batch of each."""
        if not refs:
            return {}
        with self.connection.pipeline(transaction=False) as reader:
            for ref in refs:
                reader.hget(self._history.record(ref), "state")
            states = reader.execute()
        announced = history.BatchState.ANNOUNCED.value
        return {
            batch: text(state) if state else announced
            for batch, state in zip(refs.values(), states, strict=True)
        }

    def _outcomes(
        self, announcements: Sequence[Announcement], free: Mapping[str, Job | None]
    ) -> list[Outcome]:
        strangers = self._strangers_without_room(announcements)
        outcomes = []
        unseen = {announcement.batch for announcement in announcements}
        for batch in (announcement.batch for announcement in announcements):
            if batch in strangers:
                outcomes.append(Outcome.FULL)
                continue
            is_new = batch in unseen and self.batch_job_id(batch) in free
            outcomes.append(Outcome.ACCEPTED if is_new else Outcome.DUPLICATE)
            unseen.discard(batch)
        return outcomes

    def _note(self, pipe: Any, announcements: Sequence[Announcement]) -> None:
        for each in announcements:
            key = self.announcement(each.batch)
            pipe.hincrby(key, each.trigger.value, 1)
            if each.user_metadata is not None:
                pipe.hset(key, "user_metadata", each.user_metadata)
            if each.refetch:
                pipe.hset(key, "refetch", "1")
            pipe.expire(key, ANNOUNCEMENT_TTL_SECONDS)
        vouched = {a.batch for a in announcements if a.trigger is not Trigger.DYNAMIC}
        if doubtful := {a.batch for a in announcements} - vouched:
            pipe.sadd(self.strangers, *doubtful)
        if vouched:
            pipe.srem(self.strangers, *vouched)
