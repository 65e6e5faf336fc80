"""Finds batches that ended without our being told: asks Gemini for its list and enqueues what has no commit.

Cheap when there is nothing to do: a page of the list and a look into the bucket per hundred batches, no download. It
believes the bucket, not Redis. Each of its duties stands alone: what fails is counted and named, and stops no other.

Of a cancelled batch nobody can be told, so between the runs, and while batches are running, it glances at these: one
page of the list, and the bucket for those that have ended since.
"""

from collections.abc import Callable
from functools import partial
from itertools import islice

import msgspec

from workers import commit, notices, rebuilding, timetable
from workers.bucket import layout
from workers.chronicle import count_requests
from workers.contract import Queues, logs, parse_batch_id
from workers.errors import KeyRefused, WorkerError
from workers.gemini.batches import Batch
from workers.gemini.webhooks import Webhook
from workers.outside.posts import fetch
from workers.process import Tools, gather
from workers.retry import LONGEST_LIFE_SECONDS
from workers.unannounced import GROUP, Report, announce, ended, recent

logger = logs.named("workers")

# Batches run for up to 48 hours, and are urgent until 48 hours after their end; a day to spare.
CREATED_WITHIN_SECONDS = 5 * 86400
# Longer than a look at the bucket takes, and than clocks may differ.
_TRIAL_SECONDS = 3600


def reconcile(tools: Tools, queues: Queues, *, reenable: bool, now: float | None = None) -> Report:
    """Enqueue every batch that ended and has no commit, or one that may be replaced; nearest to its expiry first.

    A batch that failed for good is left to an operator's `replay`. Every run looks at the batches of the last five
    days, one a day at all whose results can still be there.

    Raises:
        redis.exceptions.RedisError: nothing can be enqueued.
    """
    now = queues.now() if now is None else now
    is_long = timetable.long_look_due(queues)
    horizon = now - (LONGEST_LIFE_SECONDS if is_long else CREATED_WITHIN_SECONDS)
    report, running = Report(), list[Batch]()

    def look() -> None:
        announce(tools, queues, report, now, recent(tools, report, horizon, running))
        timetable.note_running(queues, [batch.id for batch in running])
        rebuilding.note_pending(queues, running, queues.now())

    _standing_alone(report, "looking for batches", look)
    _standing_alone(report, "tidying up", lambda: _sweep(tools, queues, report))
    webhooks: list[Webhook] = []
    _standing_alone(
        report,
        "asking after the webhooks",
        lambda: webhooks.extend(_look_after_webhooks(tools, report, reenable=reenable)),
    )
    _standing_alone(report, "listing what is committed", lambda: rebuilding.keep(queues, tools.bucket, now))
    _standing_alone(
        report, "telling of commits", lambda: notices.bring(tools.downstream, tools.bucket, queues)
    )
    for field, value in report.numbers().items():
        if value:
            queues.count(f"reconcile_{field}", value)
    if report.troubles:
        queues.count("reconcile_errors")
    queues.count("reconcile_runs")
    rebuilding.note_run(queues, now, report.enqueued, msgspec.to_builtins(report), webhooks)
    count_requests(queues, tools.gemini, tools.bucket)
    return report


def glance(tools: Tools, queues: Queues) -> Report:
    """Enqueue what has ended of the batches that were running when it was looked last, as far as one page tells.

    Raises:
        redis.exceptions.RedisError: nothing can be enqueued.
    """
    report, running = Report(), list[Batch]()
    known = timetable.running(queues)

    def look() -> None:
        page = islice(tools.gemini.batches(GROUP), GROUP)
        found = (batch for batch in ended(tools, report, page, running) if batch.id in known)
        announce(tools, queues, report, queues.now(), found)
        timetable.note_running(queues, [batch.id for batch in running])

    _standing_alone(report, "looking for batches", look)
    return report


def run(tools: Tools, queues: Queues, heartbeat_url: str | None = None, *, is_glance: bool = False) -> None:
    """One run, told in the log and by a heartbeat; or a glance, of which only what it found is told."""
    if is_glance:
        report = glance(tools, queues)
        if not report.enqueued and not report.troubles:
            return
    else:
        report = reconcile(tools, queues, reenable=tools.reenable_webhooks)
        beat(report, heartbeat_url)
    for sentence in report.troubles:
        logger.error("reconcile_trouble", reason=sentence)
    found = {name: value for name, value in report.numbers().items() if value}
    logger.info("reconciled", **found)


def beat(report: Report, heartbeat_url: str | None) -> None:
    """Fetch an address where a run was good. What comes of that is only said."""
    if heartbeat_url is None or report.troubles:
        return
    try:
        fetch(heartbeat_url)
    except WorkerError as error:
        logger.warning("heartbeat_failed", reason=str(error))


def _standing_alone(report: Report, doing: str, duty: Callable[[], None]) -> None:
    try:
        duty()
    except WorkerError as error:
        report.key_refused |= isinstance(error, KeyRefused)
        report.trouble(f"While {doing}: {error}")


def _sweep(tools: Tools, queues: Queues, report: Report) -> None:
    """Remove what a crash left in `_work/`: of batches that are committed, and of looks at the bucket."""
    names = [name for name, _ in tools.bucket.list(layout.WORK)]
    begun = {name.split("/")[1] for name in names}
    for batch in sorted(name for name in begun if parse_batch_id(name)):
        _standing_alone(
            report, f"tidying up after {batch}", partial(_sweep_one, tools, queues, report, batch)
        )
    for folder, began in sorted({found for found in map(layout.trial_of, names) if found}):
        if queues.now() - began > _TRIAL_SECONDS:
            tools.bucket.delete_tree(folder)
            report.swept += 1
    tools.bucket.sweep_staging()


def _sweep_one(tools: Tools, queues: Queues, report: Report, batch: str) -> None:
    if queues.connection.exists(f"rq:job:{queues.batch_job_id(batch)}"):
        return
    facts = gather(tools.bucket, batch)
    if facts.summary is not None and not facts.replaces:
        commit.tidy(tools.bucket, facts.summary)
        report.swept += 1


def _look_after_webhooks(tools: Tools, report: Report, *, reenable: bool) -> list[Webhook]:
    webhooks = [*tools.gemini.webhooks.list()]
    for webhook in webhooks:
        if not _is_disabled(webhook):
            continue
        report.webhooks_disabled += 1
        if reenable:
            tools.gemini.webhooks.enable(webhook.id)
            report.webhooks_reenabled += 1
            logger.warning("webhook_reenabled", webhook=webhook.id)
        else:
            logger.error(
                "webhook_disabled",
                webhook=webhook.id,
                advice="Gemini gave up on it: run `batch-receiver register`, or set RECONCILE_REENABLE=on",
            )
    return webhooks


def _is_disabled(webhook: Webhook) -> bool:
    return webhook.disabled_for_failures and any(
        event.startswith("batch.") for event in webhook.subscribed_events
    )
