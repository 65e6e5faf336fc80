"""What RQ runs: the order of events for each kind of job, and what is done about errors."""

import logging
import os
import time
from collections.abc import Callable

import msgspec
from redis import Redis
from rq import Retry, get_current_job
from rq.job import Job

from workers import commit, contract, fanout, strangers
from workers.bucket.opening import open_bucket
from workers.contract import Announced, Trigger
from workers.errors import Permanent, Unreadable, WorkerError
from workers.gemini.access import Access
from workers.gemini.client import Gemini
from workers.process import Result, Tools, process
from workers.process import fan_out_part as fan_out_one
from workers.reconcile import reconcile
from workers.retry import decide
from workers.settings import Settings

logger = logging.getLogger("workers")

_FOREVER = 1_000_000
_tools: Tools | None = None


def prepare(settings: Settings) -> Tools:
    """Build what the jobs need. Called before the fork, so that no job pays for imports or a TLS context.

    Raises:
        SettingsError: a setting asks for what is not there.
    """
    global _tools  # noqa: PLW0603
    fanout.prepare(settings.outputs)
    _tools = Tools(
        gemini=Gemini(Access(settings.base_url, settings.api_key)),
        bucket=open_bucket(
            settings.storage_url, settings.environment, concurrency=settings.fanout_concurrency
        ),
        outputs=settings.outputs,
        part_bytes=settings.part_bytes,
        display_name=settings.display_name,
        reenable_webhooks=settings.reconcile_reenable,
    )
    return _tools


def process_batch(batch: str) -> Retry | None:
    """Job `batch-<id>`: look at the batch, and once more for as long as it is announced meanwhile."""
    job = _job()
    return _guarded(job, batch, lambda: _process_until_settled(job, batch))


def fan_out_part(batch: str, number: int) -> Retry | None:
    """Job `part-<id>-<number>`."""
    job = _job()

    def step() -> None:
        if fan_out_one(_ready(), batch, number):
            Jobs(job.connection).finish(batch)

    return _guarded(job, batch, step)


def finish_batch(batch: str) -> Retry | None:
    """Job `finish-<id>`."""
    job = _job()

    def step() -> None:
        summary = commit.finish(_ready().bucket, batch)
        if summary is None:
            contract.announce(job.connection, [contract.Announcement(batch, Trigger.RECONCILE)])
        else:
            _log(
                "committed", batch, state=summary.state, total=summary.counts.total, revision=summary.revision
            )

    return _guarded(job, batch, step)


def reconcile_batches() -> None:
    """Job `reconcile`: enqueue what ended without our being told. A failed run is followed by the next one."""
    job = _job()
    job.retries_left = 0
    tools = _ready()
    try:
        report = reconcile(tools, job.connection, reenable=tools.reenable_webhooks)
    except WorkerError as error:
        logger.error("event=reconcile_failed reason=%r", str(error))  # noqa: TRY400 - the sentence says it
        job.connection.hincrby(contract.COUNTERS, "reconcile_errors", 1)
        return
    found = " ".join(f"{name}={value}" for name, value in msgspec.structs.asdict(report).items() if value)
    logger.info("event=reconciled %s", found)


class Jobs:
    """Brings parts and the last step on as jobs, each of them once."""

    def __init__(self, connection: Redis) -> None:
        self._connection = connection

    def part(self, batch: str, number: int) -> None:
        contract.enqueue_once(
            self._connection,
            contract.PARTS,
            contract.FAN_OUT_PART,
            [batch, number],
            contract.part_job_id(batch, number),
        )

    def finish(self, batch: str) -> None:
        contract.enqueue_once(
            self._connection,
            contract.BATCHES,
            contract.FINISH_BATCH,
            [batch],
            contract.finish_job_id(batch),
            at_front=True,
        )


def _process_until_settled(job: Job, batch: str) -> None:
    while True:
        said = contract.announced(job.connection, batch)
        if not said.triggers:
            said = Announced(frozenset({Trigger(job.meta.get("trigger", Trigger.RECONCILE))}), 0, None)
        # Google signed it, but for whom? Anyone can point a job of theirs at our URL.
        may_be_a_strangers = said.triggers == {Trigger.DYNAMIC}
        if may_be_a_strangers:
            strangers.check(job.connection)
        try:
            result = process(_ready(), Jobs(job.connection), batch, said)
        except Unreadable:
            if not may_be_a_strangers:
                raise
            strangers.note(job.connection)
            result = Result.LEFT_ALONE
        except Permanent:
            if contract.announced(job.connection, batch).count > said.count:
                continue
            raise
        if result is Result.LEFT_ALONE:
            job.connection.hincrby(contract.COUNTERS, "left_alone", 1)
        _log(result.name.lower(), batch, trigger=said.strongest)
        if contract.settle(job.connection, batch, said):
            return


def _guarded(job: Job, batch: str, step: Callable[[], None]) -> Retry | None:
    """Run a step; what can heal is tried again later, what can't fails at once, both with the reason kept."""
    try:
        step()
    except WorkerError as error:
        attempt = job.number_of_retries or 0
        seconds = decide(error, attempt, since=job.created_at.timestamp() if job.created_at else time.time())
        job.meta["reason"] = str(error)
        job.save_meta()  # type: ignore[no-untyped-call]
        if seconds is None:
            # RQ's own retries are for crashes.
            job.retries_left = 0
            _log("failed", batch, level=logging.ERROR, job=job.id, reason=repr(str(error)))
            raise
        _log("retry", batch, level=logging.WARNING, job=job.id, seconds=seconds, reason=repr(str(error)))
        return Retry(max=_FOREVER, interval=seconds)
    return None


def _job() -> Job:
    job = get_current_job()
    if job is None:
        raise RuntimeError("jobs run in a worker; use `batch-receiver process` in the foreground")
    return job


def _ready() -> Tools:
    return _tools or prepare(Settings.load(os.environ))


def _log(event: str, batch: str, level: int = logging.INFO, **fields: object) -> None:
    logger.log(level, " ".join([f"event={event} batch={batch}", *(f"{k}={v}" for k, v in fields.items())]))
