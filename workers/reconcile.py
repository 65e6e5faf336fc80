"""Finds batches that ended without our being told: asks Gemini for its list and enqueues what has no commit.

Cheap when there is nothing to do: a page of the list per hundred batches, one look into the bucket for each batch
that was not seen committed before, no download.
"""

import logging
import time
from collections.abc import Iterable, Iterator, Sequence

import msgspec
from redis import Redis

from workers import commit, contract
from workers.bucket import layout
from workers.contract import Announcement, Outcome, Trigger
from workers.gemini.batches import FILE_LIFE_SECONDS, Batch, State, timestamp
from workers.gemini.webhooks import Webhook
from workers.process import Tools

logger = logging.getLogger("workers")

LAST_RUN = "batch-receiver:reconcile:last"
# Batches run for up to 48 hours, and are looked for until 48 hours after their end; a day to spare.
CREATED_WITHIN_SECONDS = 5 * 86400

_GROUP = 100


class Report(msgspec.Struct):
    """What one run found. All are numbers of batches but those of webhooks."""

    listed: int = 0
    final: int = 0
    committed: int = 0
    enqueued: int = 0
    already_waiting: int = 0
    failed_for_good: int = 0
    other_names: int = 0
    swept: int = 0
    webhooks_disabled: int = 0
    webhooks_reenabled: int = 0


def reconcile(tools: Tools, connection: Redis, *, reenable: bool, now: float | None = None) -> Report:
    """Enqueue every batch that ended within 48 hours and has no commit, those nearest to their expiry first.

    Also those committed as anything but succeeded that have succeeded since. A batch that failed for good is left to
    an operator's `replay`.

    Raises:
        Transient, Permanent: from Gemini or the bucket; what was enqueued until then stays enqueued.
    """
    now = time.time() if now is None else now
    report = Report()
    missing = sorted(
        _missing(tools, connection, report, now), key=lambda batch: timestamp(batch.ended_at) or 0.0
    )
    for group in _groups(missing):
        outcomes = contract.announce(
            connection, [Announcement(batch.id, Trigger.RECONCILE) for batch in group]
        )
        report.enqueued += outcomes.count(Outcome.ACCEPTED)
        report.already_waiting += outcomes.count(Outcome.DUPLICATE)
    _sweep(tools, report)
    _look_after_webhooks(tools, report, reenable=reenable)
    for field, value in msgspec.structs.asdict(report).items():
        connection.hincrby(contract.COUNTERS, f"reconcile_{field}", value)
    connection.hincrby(contract.COUNTERS, "reconcile_runs", 1)
    return report


def due(connection: Redis, interval_seconds: int, now: float | None = None) -> bool:
    """Whether it is time for the next run, over all workers; whoever is told so has to bring it on.

    The first run comes an interval after the first worker of a new Redis, later ones also right after an outage.
    """
    now = time.time() if now is None else now
    with connection.pipeline() as pipe:
        pipe.set(LAST_RUN, now, nx=True)
        pipe.get(LAST_RUN)
        last = contract.text(pipe.execute()[1])
    # A last run in the future: the clock was set back since.
    if 0 <= now - float(last) < interval_seconds:
        return False
    # GETSET: of several workers at the same moment, the one that replaces the old time is the one that runs.
    return connection.getset(LAST_RUN, now) in {last, last.encode()}


def _missing(tools: Tools, connection: Redis, report: Report, now: float) -> Iterator[Batch]:
    failed = _failed_for_good(connection)
    for group in _groups(_recent(tools, report, now)):
        with connection.pipeline(transaction=False) as pipe:
            for batch in group:
                pipe.get(_remembered(batch.id))
                pipe.hget(f"rq:job:{contract.batch_job_id(batch.id)}", "status")
            replies = pipe.execute()
        for batch, known, status in zip(group, replies[::2], replies[1::2], strict=True):
            if _is_committed(tools, connection, batch, known):
                report.committed += 1
            elif batch.id in failed:
                report.failed_for_good += 1
            elif status is not None:
                report.already_waiting += 1
            else:
                yield batch


def _recent(tools: Tools, report: Report, now: float) -> Iterator[Batch]:
    for batch in tools.gemini.batches():
        created = timestamp(batch.created_at)
        if created is not None and created < now - CREATED_WITHIN_SECONDS:
            return
        report.listed += 1
        ended = timestamp(batch.ended_at)
        if contract.parse_batch_id(batch.id) != batch.id:
            logger.warning("event=unreadable_batch_listed")
            continue
        if not batch.final or (ended is not None and ended < now - FILE_LIFE_SECONDS):
            continue
        report.final += 1
        if tools.wants(batch):
            yield batch
        else:
            report.other_names += 1


def _is_committed(tools: Tools, connection: Redis, batch: Batch, known: bytes | str | None) -> bool:
    """Whether what is in the bucket is final for this state; remembered, so that it is looked up once."""
    if known is not None and contract.text(known) in {State.SUCCEEDED, batch.state}:
        return True
    summary = commit.read_summary(tools.bucket, batch.id)
    if summary is None:
        return False
    connection.set(_remembered(batch.id), summary.state, ex=CREATED_WITHIN_SECONDS)
    return summary.state in {State.SUCCEEDED, batch.state}


def _failed_for_good(connection: Redis) -> set[str]:
    """Batches of which a job failed for good: their own, a part's or the last step's."""
    found = set()
    for name in (contract.BATCHES, contract.PARTS):
        for job_id in contract.queue(name, connection).failed_job_registry.get_job_ids(cleanup=False):
            batch = contract.batch_of_job(job_id)
            if batch:
                found.add(batch)
    return found


def _sweep(tools: Tools, report: Report) -> None:
    """Remove what a crash left in `_work/` of batches that are committed."""
    for batch in {name.split("/")[1] for name, _ in tools.bucket.list(layout.WORK)}:
        summary = commit.read_summary(tools.bucket, batch)
        if summary and summary.state is State.SUCCEEDED:
            commit.tidy(tools.bucket, summary)
            report.swept += 1
    tools.bucket.sweep_staging()


def _look_after_webhooks(tools: Tools, report: Report, *, reenable: bool) -> None:
    for webhook in tools.gemini.webhooks.list():
        if not _is_disabled(webhook):
            continue
        report.webhooks_disabled += 1
        if reenable:
            tools.gemini.webhooks.enable(webhook.id)
            report.webhooks_reenabled += 1
            logger.warning("event=webhook_reenabled webhook=%s", webhook.id)
        else:
            logger.error(
                "event=webhook_disabled webhook=%s advice=%r",
                webhook.id,
                "Gemini gave up on it: run `batch-receiver register`, or set RECONCILE_REENABLE=on",
            )


def _is_disabled(webhook: Webhook) -> bool:
    return webhook.disabled_for_failures and any(
        event.startswith("batch.") for event in webhook.subscribed_events
    )


def _remembered(batch: str) -> str:
    return f"batch-receiver:committed:{batch}"


def _groups(batches: Iterable[Batch]) -> Iterator[Sequence[Batch]]:
    group: list[Batch] = []
    for batch in batches:
        group.append(batch)
        if len(group) == _GROUP:
            yield group
            group = []
    if group:
        yield group
