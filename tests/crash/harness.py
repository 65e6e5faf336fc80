"""One batch, one point: a worker is killed there, or stopped while another does its work, and then all is put right.

Workers are RQ's own as the product sets them up, but that they run a job in their own process. Time is not waited for:
what a minute without a heartbeat does (lost jobs are taken up, scheduled ones come due) is done at once.
"""

import logging
import os
import re
import shutil
import signal
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis import Redis
from rq.job import JobStatus
from rq.serializers import JSONSerializer
from rq.worker import WorkerStatus

from tests.crash.apart import apart
from tests.crash.kinds import BATCH, PART_BYTES, Change, Here, Kind
from tests.crash.ticking import TickingBucket, Ticks, leave
from tests.support.deployment import contents
from tests.support.gemini import Gemini
from tests.support.s3 import S3
from workers import jobs, reconcile, status
from workers.bucket.opening import open_bucket
from workers.bucket.protocol import Bucket
from workers.contract import Announcement, Queues, Trigger
from workers.orphans import requeue_orphans
from workers.own_jobs import OwnJob, OwnQueue
from workers.settings import Settings
from workers.verify.findings import Kind as FindingKind
from workers.verify.verification import verify
from workers.worker import BatchWorker

# What differs from one telling of a story to the next: when it was, and who was first to say so.
_TIMES = re.compile(rb'"(created_at|ended_at|committed_at|trigger)": [^,\n]+')
_ROUNDS = 12
_ENOUGH = 2_000_000_000.0


class InProcess(BatchWorker):
    """Runs each job in this process: the call that ends it is then one of the product's."""

    def execute_job(self, job: Any, queue: Any) -> None:
        execution = self.prepare_execution(job)
        self.perform_job(job, queue, execution)
        self.set_state(WorkerStatus.IDLE)

    def _others_work(self) -> bool:
        return False

    def _install_signal_handlers(self) -> None:
        pass


@dataclass(frozen=True, slots=True)
class World:
    """A Redis and a local Gemini that are ours alone, and a folder or a store for buckets."""

    gemini: Gemini
    redis_url: str
    folder: Path
    store: S3 | None = None

    def url(self, name: str) -> str:
        """Of a bucket of its own."""
        name = name.replace(" ", "-")
        return f"{self.store.url}/{name}" if self.store else (self.folder / name).as_uri()

    @property
    def env(self) -> dict[str, str]:
        """What workers run with, but for the bucket."""
        store = self.store.env if self.store else {}
        # One thread that puts, so that the calls come in the same order each time.
        return {**self.gemini.env, **store, "REDIS_URL": self.redis_url, "FANOUT_CONCURRENCY": "1"}


@dataclass(slots=True)
class Story:
    """One kind of batch in one bucket."""

    world: World
    kind: Kind
    url: str
    has_changed: bool = False

    def begin(self) -> None:
        """As it is before any worker looks: announced, in an empty Redis and an empty bucket."""
        apart(self._empty)
        self.has_changed = False
        with Redis.from_url(self.world.redis_url) as redis:
            redis.flushall()
        self._happens(self.kind.begin)
        self._announce()
        if self.kind.change:
            self.in_a_child(self.kind.steps)
            if self.kind.steps is None:
                self.put_right()
            self._happens(self.kind.change)
            self.has_changed = True
            if self.kind.is_announced_again:
                self._announce()
            with Redis.from_url(self.world.redis_url) as redis:
                self._time_passes(Queues(redis))

    def meanwhile(self) -> None:
        """What happens while a worker is dead."""
        if self.kind.meanwhile:
            self._happens(self.kind.meanwhile)

    def in_a_child(self, at: int | None, number: int = signal.SIGKILL) -> int:
        """Have a worker work until nothing is left, or a signal is sent before its `at`-th call; its process id."""
        sys.stdout.flush()
        child = os.fork()
        if not child:
            status = 1
            try:
                self._work(Ticks(at, leave(number)))
                status = 0
            finally:
                os._exit(status)
        _, how = os.waitpid(child, os.WUNTRACED)
        if os.WIFEXITED(how) and os.WEXITSTATUS(how):
            raise RuntimeError("a worker ended with an error")
        return child

    def count(self) -> list[str]:
        """The calls that a worker makes who is left in peace, by name."""
        self.begin()
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            ticks = Ticks(None, lambda: None)
            try:
                self._work(ticks)
                os.write(writer, "\n".join(ticks.names).encode())
            finally:
                os._exit(0)
        os.close(writer)
        with os.fdopen(reader) as pipe:
            names = pipe.read().split("\n")
        os.waitpid(child, 0)
        return names

    def put_right(self) -> None:
        """What the product does by itself within minutes and an interval of `reconcile`."""
        logging.getLogger("workers").setLevel(logging.CRITICAL)
        with Redis.from_url(self.world.redis_url) as redis:
            queues = Queues(redis)
            for _ in range(_ROUNDS):
                if not self._time_passes(queues):
                    break
                self.in_a_child(None)
            else:
                raise AssertionError(f"still at work after {_ROUNDS} rounds: {_left_in(redis)}")
            if apart(self._reconcile):
                self.in_a_child(None)
                apart(self._reconcile)

    def stored(self) -> dict[str, bytes]:
        """Every object, and what stands in it but for times."""
        return {name: _TIMES.sub(b"", data) for name, data in apart(self._contents).items()}

    def halfway(self) -> None:
        """A worker has just been killed: the batch is whole, or it is visibly not done.

        Raises:
            AssertionError: neither.
        """
        if self.kind.change is None and (found := apart(self._halfway)):
            raise AssertionError(f"halfway: {found}")

    def trouble(self, expected: dict[str, bytes]) -> list[str]:
        """What is not as it should be."""
        with Redis.from_url(self.world.redis_url) as redis:
            found = [f"left in Redis: {name}" for name in _left_in(redis)]
        there = self.stored()
        found += [f"not in the bucket: {name}" for name in sorted(expected.keys() - there.keys())]
        found += [f"too many: {name}" for name in sorted(there.keys() - expected.keys())]
        found += [
            f"differs: {name}"
            for name in sorted(expected.keys() & there.keys())
            if there[name] != expected[name]
        ]
        return found + apart(self._unlike_its_end)

    def _happens(self, change: Change) -> None:
        def happens() -> None:
            with Redis.from_url(self.world.redis_url) as redis:
                change(Here(self.world.gemini, self._open(), redis))

        apart(happens)

    def _open(self) -> Bucket:
        return open_bucket(self.url, self.world.env)

    def _empty(self) -> None:
        if self.world.store:
            bucket = self._open()
            bucket.delete([name for name, _ in bucket.list("")])
        else:
            shutil.rmtree(self.url.removeprefix("file://"), ignore_errors=True)

    def _contents(self) -> dict[str, bytes]:
        if self.world.store:
            bucket = self._open()
            return {name: bucket.get(name) or b"" for name, _ in bucket.list("")}
        return contents(Path(self.url.removeprefix("file://")), but_times=False)

    def _reconcile(self) -> int:
        """How many batches it enqueued."""
        tools = jobs.prepare(self._settings())
        with Redis.from_url(self.world.redis_url) as redis, closing(tools.gemini):
            return reconcile.reconcile(tools, Queues(redis), reenable=False).enqueued

    def _halfway(self) -> str:
        report = verify(self._open(), BATCH)
        if report.summary:
            # The copy in `_index/` is what tidying up brings, and nobody acts on.
            kinds = [kind for kind in report.findings.counts if kind is not FindingKind.LEFT_OVER]
            wrong = [problem.subject for kind in kinds for problem in report.findings.first(kind)]
            return ", ".join(subject for subject in wrong if not subject.startswith("_index/"))
        with Redis.from_url(self.world.redis_url) as redis:
            state = status.batch_status(Queues(redis), self._open(), BATCH)["state"]
        return "" if state in {"waiting", "running"} else f"no batch.json, and it is {state}"

    def _unlike_its_end(self) -> list[str]:
        report = verify(self._open(), BATCH)
        ended = (report.summary.state, report.summary.counts.total) if report.summary else None
        found = [f"ended as {ended} instead of {self.kind.ends}"] if ended != self.kind.ends else []
        return found + [f"{kind}: {count}" for kind, count in report.findings.counts.items()]

    def _announce(self) -> None:
        with Redis.from_url(self.world.redis_url) as redis:
            Queues(redis).announce([Announcement(BATCH, Trigger.WEBHOOK)])

    def _settings(self) -> Settings:
        return Settings.load(
            {
                **self.world.env,
                "STORAGE_URL": self.url,
                "PART_BYTES": str(PART_BYTES),
                "OUTPUTS": (self.kind.outputs_at_last if self.has_changed else None) or self.kind.outputs,
            }
        )

    def _work(self, ticks: Ticks) -> None:
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115 - for the rest of this child's life
        tools = jobs.prepare(self._settings())
        object.__setattr__(tools, "bucket", TickingBucket(tools.bucket, ticks))
        ticks.everywhere()
        redis = Redis.from_url(self.world.redis_url)
        queues = [OwnQueue(name, connection=redis) for name in Queues(redis).names]
        InProcess(queues, connection=redis, serializer=JSONSerializer).work(
            burst=True, logging_level="CRITICAL"
        )

    def _time_passes(self, queues: Queues) -> bool:
        """Lost jobs are taken up, and what is scheduled comes due; whether there is any work now."""
        waiting = False
        for name in queues.names:
            home = OwnQueue(name, connection=queues.connection)
            for job_id in home.started_job_registry.get_job_ids(cleanup=False):
                queues.connection.zremrangebyrank(home.started_job_registry.key, 0, -1)
                self._take_up(home, job_id)
            for job_id in home.scheduled_job_registry.get_job_ids(cleanup=False):
                queues.connection.zrem(home.scheduled_job_registry.key, job_id)
                home.enqueue_job(
                    OwnJob.fetch(job_id, connection=queues.connection, serializer=JSONSerializer)
                )
            waiting |= bool(home.count)
        requeue_orphans(queues, _ENOUGH)
        waiting |= bool(requeue_orphans(queues, _ENOUGH + 60))
        return waiting

    def _take_up(self, home: OwnQueue, job_id: str) -> None:
        """As RQ does with a job whose worker is lost: it is put back, and has one try less."""
        try:
            job = OwnJob.fetch(job_id, connection=home.connection, serializer=JSONSerializer)
        except Exception:  # noqa: BLE001 - RQ's own: there is no record any more
            return
        if job.get_status() in {JobStatus.STARTED, JobStatus.QUEUED}:
            home.remove(job_id)
            home.enqueue_job(job)


def _left_in(redis: "Redis") -> list[str]:
    """Keys that a batch leaves while something is to be done for it."""
    patterns = (
        "rq:job:*",
        "batch-receiver:announced:*",
        "rq:queue:*",
        "rq:scheduled:*",
        "rq:failed:*",
        "rq:wip:*",
    )
    return sorted(key.decode() for pattern in patterns for key in redis.scan_iter(pattern))


def killed(story: Story, at: int) -> None:
    """A worker is killed before its n-th call, and others go on."""
    story.begin()
    story.in_a_child(at)
    story.halfway()
    story.meanwhile()
    story.put_right()


def interleaved(story: Story, at: int) -> None:
    """A worker is stopped before its n-th call, taken for lost, and wakes when others have done its work."""
    story.begin()
    child = story.in_a_child(at, signal.SIGSTOP)
    try:
        story.put_right()
    finally:
        _awake(child)
    story.put_right()


def _awake(child: int) -> None:
    try:
        os.kill(child, signal.SIGCONT)
        os.waitpid(child, 0)
    except (ProcessLookupError, ChildProcessError):
        return  # It had ended before its n-th call.


Way = Callable[[Story, int], None]
WAYS: dict[str, Way] = {"killed": killed, "interleaved": interleaved}
