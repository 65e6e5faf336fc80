"""What RQ runs: the order of events for each kind of job, and what is done about errors."""

import logging
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import replace

from rq import Retry, get_current_job
from rq.job import Job

from workers import cost, fanout, notices, strangers
from workers.bucket.opening import open_bucket
from workers.chronicle import Kept, count_requests
from workers.contract import Announced, Announcement, Queues, Trigger, parse_batch_id
from workers.errors import Unreadable, WorkerError
from workers.gemini.access import Access
from workers.gemini.client import Gemini
from workers.notices import Downstream, Told
from workers.process import Result, Tools, process
from workers.process import fan_out_part as fan_out_one
from workers.retry import decide
from workers.settings import Settings

logger = logging.getLogger("workers")

_FOREVER = 1_000_000
MOST_PAUSE_SECONDS = 900
"""Between two tries to tell of a commit."""
_prepared: tuple[Tools, str] | None = None


def prepare(settings: Settings) -> Tools:
    """Build what the jobs need. Called before the fork, so that no job pays for imports or a TLS context.

    Raises:
        SettingsError: a setting asks for what is not there.
    """
    global _prepared  # noqa: PLW0603
    fanout.prepare(settings.outputs)
    cost.is_there()
    tools = Tools(
        gemini=Gemini(Access(settings.base_url, settings.api_key)),
        bucket=open_bucket(
            settings.storage_url, settings.environment, concurrency=settings.fanout_concurrency
        ),
        outputs=settings.outputs,
        part_bytes=settings.part_bytes,
        display_name=settings.display_name,
        reenable_webhooks=settings.reconcile_reenable,
        downstream=downstream_of(settings),
    )
    _prepared = tools, settings.queue_prefix
    return tools


def downstream_of(settings: Settings) -> Downstream | None:
    """Where commits are told, if anywhere."""
    if settings.notify_url is None or settings.notify_secret is None:
        return None
    return Downstream(settings.notify_url, settings.notify_secret)


def process_batch(batch: str) -> Retry | None:
    """Job `…-batch-<id>`: look at the batch, and once more for as long as it is announced meanwhile."""
    job, tools, queues = _ready(batch)
    kept = Kept(queues, batch)
    tools = replace(tools, chronicle=kept)
    try:
        return _guarded(job, batch, kept, lambda: _process_until_settled(job, tools, queues, batch))
    finally:
        count_requests(queues, tools.gemini, tools.bucket)


def fan_out_part(batch: str, number: int) -> Retry | None:
    """Job `…-part-<id>-<number>`."""
    job, tools, queues = _ready(batch)
    kept = Kept(queues, batch)
    tools = replace(tools, chronicle=kept)

    def step() -> None:
        summary = fan_out_one(tools, Jobs(queues), batch, number)
        if summary is not None:
            total, revision = summary.counts.total, summary.revision
            _log("committed", batch, state=summary.state, total=total, revision=revision)
        notices.bring(tools.downstream, tools.bucket, queues, batch)

    try:
        return _guarded(job, batch, kept, step, part=number)
    finally:
        count_requests(queues, tools.gemini, tools.bucket)


def tell_downstream(batch: str, revision: int) -> Retry | None:
    """Job `…-notice-<id>-r<revision>`: tried for two days; the batch is as committed with it as without."""
    job, tools, queues = _ready(batch)
    if tools.downstream is None:
        return None
    kept = Kept(queues, batch)
    try:
        told = notices.tell(tools.downstream, tools.bucket, batch, revision)
    except WorkerError as error:
        seconds = decide(error, job.number_of_retries or 0, since=time.time()) or MOST_PAUSE_SECONDS
        job.meta["reason"] = str(error)
        job.save_meta()  # type: ignore[no-untyped-call]
        kept.noted("not notified", reason=str(error), revision=revision)
        _log("notify_retry", batch, level=logging.WARNING, seconds=seconds, reason=repr(str(error)))
        return Retry(max=_FOREVER, interval=min(seconds, MOST_PAUSE_SECONDS))
    if told in {Told.DELIVERED, Told.GIVEN_UP}:
        kept.notified(told.value, revision)
        level = logging.INFO if told is Told.DELIVERED else logging.ERROR
        event = "notified" if told is Told.DELIVERED else "notify_given_up"
        _log(event, batch, level=level, revision=revision)
    return None


class Jobs:
    """Brings parts on as jobs, each of them once."""

    def __init__(self, queues: Queues, *, hurry: bool = False) -> None:
        self._queues = queues
        self._hurry = hurry

    def part(self, batch: str, number: int) -> None:
        self._queues.enqueue_part(batch, number, hurry=self._hurry)

    def parts(self, batch: str, numbers: Iterable[int]) -> bool:
        for number in numbers:
            self.part(batch, number)
        return False

    def look(self, batch: str) -> None:
        self._queues.announce([Announcement(batch, Trigger.RECONCILE)])


def _process_until_settled(job: Job, tools: Tools, queues: Queues, batch: str) -> None:
    while True:
        said = queues.announced(batch)
        job.meta["seen"] = said.count
        if not said.triggers:
            said = Announced(frozenset({Trigger(job.meta.get("trigger", Trigger.RECONCILE))}), 0, None)
        kept = Kept(queues, batch)
        kept.running(said.strongest)
        try:
            result = _process_or_drop(tools, queues, batch, said)
        except WorkerError:
            if queues.announced(batch).count > said.count:
                continue
            raise
        if result is Result.LEFT_ALONE:
            queues.count("left_alone")
            kept.left_alone()
        elif result is Result.IN_PARTS:
            kept.in_parts()
        _log(result.name.lower(), batch, trigger=said.strongest)
        notices.bring(tools.downstream, tools.bucket, queues, batch)
        if queues.settle(batch, said):
            return


def _process_or_drop(tools: Tools, queues: Queues, batch: str, said: Announced) -> Result:
    """Google signed what a dynamic webhook tells, but for whom? Anyone can point a job of theirs at our URL."""
    may_be_a_strangers = said.triggers == {Trigger.DYNAMIC}
    if may_be_a_strangers:
        strangers.check(queues)
    try:
        return process(tools, Jobs(queues, hurry=said.impatient), batch, said)
    except Unreadable:
        if not may_be_a_strangers:
            raise
        strangers.note(queues)
        return Result.LEFT_ALONE


def _guarded(
    job: Job, batch: str, kept: Kept, step: Callable[[], None], part: int | None = None
) -> Retry | None:
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
            kept.given_up(str(error), part)
            _log("failed", batch, level=logging.ERROR, job=job.id, reason=repr(str(error)))
            raise
        kept.retried(str(error), seconds, part)
        _log("retry", batch, level=logging.WARNING, job=job.id, seconds=seconds, reason=repr(str(error)))
        return Retry(max=_FOREVER, interval=seconds)
    return None


def _ready(batch: str) -> tuple[Job, Tools, Queues]:
    job = get_current_job()
    if job is None:
        raise RuntimeError("jobs run in a worker; use `batch-receiver process` in the foreground")
    if parse_batch_id(batch) != batch:
        # Whoever can write to Redis must not choose the path of a request with our key.
        job.retries_left = 0
        raise RuntimeError("the job names no batch")
    if _prepared is None:
        prepare(Settings.load(os.environ))
    if _prepared is None:
        raise AssertionError
    tools, prefix = _prepared
    return job, tools, Queues(job.connection, prefix)


def _log(event: str, batch: str, level: int = logging.INFO, **fields: object) -> None:
    logger.log(level, " ".join([f"event={event} batch={batch}", *(f"{k}={v}" for k, v in fields.items())]))
