"""What RQ runs: the order of events for each kind of job, and what is done about errors."""

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import replace

from rq import Retry, get_current_job
from rq.job import Job

from workers import fanout, notices, prices, strangers, turns
from workers.bucket.opening import open_bucket
from workers.chronicle import Kept, count_requests
from workers.contract import Announced, Announcement, Queues, Trigger, logs, parse_batch_id
from workers.contract.history import DEFAULT_PROJECT
from workers.errors import Unreadable, WorkerError
from workers.gemini.access import Access
from workers.gemini.client import Gemini
from workers.notices import Downstream, Told
from workers.process import Result, Tools, process
from workers.process import fan_out_part as fan_out_one
from workers.retry import decide
from workers.settings import Settings

logger = logs.named("workers")

_FOREVER = 1_000_000
MOST_PAUSE_SECONDS = 900
"""Between two tries to tell of a commit."""
_prepared: dict[str, Tools] = {}
"""By prefix: one a project."""


def prepare(settings: Settings) -> Tools:
    """Build what the jobs of a project need. Called before the fork, so that none pays for imports or a TLS context.

    Raises:
        SettingsError: a setting asks for what is not there.
    """
    fanout.prepare(settings.outputs)
    prices.is_there()
    tools = Tools(
        gemini=Gemini(Access(settings.base_url, settings.api_key)),
        bucket=open_bucket(
            settings.storage_url, settings.environment, concurrency=settings.fanout_concurrency
        ),
        outputs=settings.outputs,
        part_bytes=settings.part_bytes,
        display_name=settings.display_name,
        reenable_webhooks=settings.reconcile_reenable,
        project=settings.project,
        downstream=downstream_of(settings),
    )
    _prepared[settings.queue_prefix] = tools
    return tools


def forget_prepared() -> None:
    """The projects are to be prepared anew."""
    for tools in _prepared.values():
        tools.gemini.close()
    _prepared.clear()


def downstream_of(settings: Settings) -> Downstream | None:
    """Where commits are told, if anywhere."""
    if settings.notify_url is None or settings.notify_secret is None:
        return None
    return Downstream(settings.notify_url, settings.notify_secret, settings.project or DEFAULT_PROJECT)


def process_batch(batch: str) -> Retry | None:
    """Job `…-batch-<id>`: look at the batch, and once more for as long as it is announced meanwhile."""
    job, tools, queues = _ready(batch)
    kept = Kept(queues, batch)
    tools = replace(tools, chronicle=kept)
    try:
        step = _counted(queues, lambda: _process_until_settled(job, tools, queues, batch))
        with logs.bound(batch=batch, project=tools.project or DEFAULT_PROJECT, job=job.id):
            return _guarded(job, kept, step)
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
            logger.info("committed", state=summary.state, total=total, revision=revision)
        notices.bring(tools.downstream, tools.bucket, queues, batch)

    try:
        with logs.bound(batch=batch, project=tools.project or DEFAULT_PROJECT, job=job.id, part=number):
            return _guarded(job, kept, _counted(queues, step), part=number)
    finally:
        count_requests(queues, tools.gemini, tools.bucket)


def tell_downstream(batch: str, revision: int) -> Retry | None:
    """Job `…-notice-<id>-r<revision>`: tried for two days; the batch is as committed with it as without."""
    job, tools, queues = _ready(batch)
    with logs.bound(batch=batch, project=tools.project or DEFAULT_PROJECT, job=job.id):
        return _tell(job, tools, queues, batch, revision)


def _tell(job: Job, tools: Tools, queues: Queues, batch: str, revision: int) -> Retry | None:
    kept = Kept(queues, batch)
    if tools.downstream is None:
        return None
    try:
        told = notices.tell(tools.downstream, tools.bucket, batch, revision)
    except WorkerError as error:
        seconds = decide(error, job.number_of_retries or 0, since=time.time()) or MOST_PAUSE_SECONDS
        job.meta["reason"] = str(error)
        job.save_meta()  # type: ignore[no-untyped-call]
        kept.noted("not notified", reason=str(error), revision=revision)
        logger.warning("notify_retry", seconds=seconds, reason=str(error))
        return Retry(max=_FOREVER, interval=min(seconds, MOST_PAUSE_SECONDS))
    if told in {Told.DELIVERED, Told.GIVEN_UP}:
        kept.notified(told.value, revision)
        if told is Told.DELIVERED:
            logger.info("notified", revision=revision)
        else:
            logger.error("notify_given_up", revision=revision)
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
        logger.info(result.name.lower(), trigger=said.strongest)
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


def _guarded(job: Job, kept: Kept, step: Callable[[], None], part: int | None = None) -> Retry | None:
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
            logger.error("failed", reason=str(error))  # noqa: TRY400 - RQ keeps where it was raised
            raise
        kept.retried(str(error), seconds, part)
        logger.warning("retry", seconds=seconds, reason=str(error))
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
    if not _prepared:
        for settings in Settings.load_all(os.environ):
            prepare(settings)
    for prefix, tools in _prepared.items():
        queues = Queues(job.connection, prefix)
        # By the job's id alone: whatever else a record says, a project's key is used for its own batches only.
        if batch in {queues.batch_of(job.id), queues.batch_of_notice(job.id)}:
            return job, tools, queues
    job.retries_left = 0
    raise RuntimeError("the job is of no project that is worked for")


def _counted(queues: Queues, step: Callable[[], None]) -> Callable[[], None]:
    return turns.counted(queues, step) if len(_prepared) > 1 else step
