"""Finds batches that ended without our being told: asks Gemini for its list and enqueues what has no commit.

Cheap when there is nothing to do: a page of the list and a look into the bucket per hundred batches, no download. It
believes the bucket, not Redis. Each of its duties stands alone: what fails is counted and named, and stops no other.

Of a cancelled batch nobody can be told, so between the runs, and while batches are running, it glances at these: one
page of the list, and the bucket for those that have ended since.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from typing import TypeVar

import msgspec

from workers import commit, notices, rebuilding, timetable
from workers.bucket import layout
from workers.contract import Announcement, Outcome, Queues, Trigger, parse_batch_id
from workers.errors import Incomplete, KeyRefused, WorkerError
from workers.gemini.batches import FILE_LIFE_SECONDS, Batch, State, timestamp
from workers.gemini.webhooks import Webhook
from workers.outside.posts import fetch
from workers.process import Tools, gather
from workers.retry import LONGEST_LIFE_SECONDS
from workers.summary import gives_way, read_summary

logger = logging.getLogger("workers")

# Batches run for up to 48 hours, and are urgent until 48 hours after their end; a day to spare.
CREATED_WITHIN_SECONDS = 5 * 86400
# Longer than a look at the bucket takes, and than clocks may differ.
_TRIAL_SECONDS = 3600

_GROUP = 100
_LOOKS_AT_ONCE = 8
_TROUBLES = 20

_T = TypeVar("_T")


class Report(msgspec.Struct):
    """What one run found. All are numbers of batches but those of webhooks; `troubles` are sentences.

    `key_refused`: Gemini did not accept the API key, and so none of it may be true.
    """

    listed: int = 0
    final: int = 0
    committed: int = 0
    enqueued: int = 0
    already_waiting: int = 0
    failed_for_good: int = 0
    other_names: int = 0
    unreadable: int = 0
    swept: int = 0
    webhooks_disabled: int = 0
    webhooks_reenabled: int = 0
    troubles: list[str] = []
    key_refused: bool = False

    def numbers(self) -> dict[str, int]:
        others = {"troubles", "key_refused"}
        return {name: value for name, value in msgspec.structs.asdict(self).items() if name not in others}

    def trouble(self, sentence: str) -> None:
        if len(self.troubles) < _TROUBLES:
            self.troubles.append(sentence)


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
        _announce(tools, queues, report, now, _recent(tools, report, horizon, running))
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
    return report


def glance(tools: Tools, queues: Queues) -> Report:
    """Enqueue what has ended of the batches that were running when it was looked last, as far as one page tells.

    Raises:
        redis.exceptions.RedisError: nothing can be enqueued.
    """
    report, running = Report(), list[Batch]()
    known = timetable.running(queues)

    def look() -> None:
        page = islice(tools.gemini.batches(_GROUP), _GROUP)
        ended = (batch for batch in _ended(tools, report, page, running) if batch.id in known)
        _announce(tools, queues, report, queues.now(), ended)
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
        logger.error("event=reconcile_trouble reason=%r", sentence)
    found = " ".join(f"{name}={value}" for name, value in report.numbers().items() if value)
    logger.info("event=reconciled %s", found)


def beat(report: Report, heartbeat_url: str | None) -> None:
    """Fetch an address where a run was good. What comes of that is only said."""
    if heartbeat_url is None or report.troubles:
        return
    try:
        fetch(heartbeat_url)
    except WorkerError as error:
        logger.warning("event=heartbeat_failed reason=%r", str(error))


def _standing_alone(report: Report, doing: str, duty: Callable[[], None]) -> None:
    try:
        duty()
    except WorkerError as error:
        report.key_refused |= isinstance(error, KeyRefused)
        report.trouble(f"While {doing}: {error}")


def _announce(tools: Tools, queues: Queues, report: Report, now: float, batches: Iterable[Batch]) -> None:
    """What was found before the list broke off is enqueued all the same."""
    missing: list[tuple[float, str]] = []
    try:
        for ended, batch in _missing(tools, queues, report, batches):
            missing.append((ended or now, batch))
    finally:
        missing.sort()
        for group in _groups(missing):
            announcements = [
                Announcement(batch, Trigger.RECONCILE, urgent=now - ended > FILE_LIFE_SECONDS / 2)
                for ended, batch in group
            ]
            outcomes = queues.announce(announcements)
            report.enqueued += outcomes.count(Outcome.ACCEPTED)
            report.already_waiting += outcomes.count(Outcome.DUPLICATE)


def _missing(
    tools: Tools, queues: Queues, report: Report, batches: Iterable[Batch]
) -> Iterator[tuple[float | None, str]]:
    failed = _failed_for_good(queues)
    with ThreadPoolExecutor(_LOOKS_AT_ONCE, thread_name_prefix="look") as threads:
        for group in _groups(batches):
            with queues.connection.pipeline(transaction=False) as pipe:
                for batch in group:
                    pipe.hget(f"rq:job:{queues.batch_job_id(batch.id)}", "status")
                statuses = pipe.execute()
            done = threads.map(lambda batch: _is_committed(tools, report, batch), group)
            for batch, status, is_done in zip(group, statuses, done, strict=True):
                if is_done is None:
                    report.unreadable += 1
                elif is_done:
                    report.committed += 1
                elif batch.id in failed:
                    report.failed_for_good += 1
                elif status is not None:
                    report.already_waiting += 1
                else:
                    yield timestamp(batch.ended_at), batch.id


def _recent(tools: Tools, report: Report, horizon: float, running: list[Batch]) -> Iterator[Batch]:
    """The batches that ended and are ours, of those created since `horizon`; see `_ended`.

    The rest of the list is left out where it goes from newer to older batches; in any other order it is read whole.
    """
    return _ended(tools, report, _since(tools.gemini.batches(), horizon), running)


def _since(batches: Iterable[Batch], horizon: float) -> Iterator[Batch]:
    earliest, is_ordered, old_in_a_row = float("inf"), True, 0
    for batch in batches:
        created = timestamp(batch.created_at)
        is_ordered &= created is not None and created <= earliest
        earliest = created if created is not None else earliest
        if created is None or created >= horizon:
            old_in_a_row = 0
            yield batch
            continue
        old_in_a_row += 1
        if is_ordered and old_in_a_row >= _GROUP:
            return


def _ended(tools: Tools, report: Report, batches: Iterable[Batch], running: list[Batch]) -> Iterator[Batch]:
    """The batches that ended and are ours. Those of ours that have not ended are added to `running`."""
    for batch in batches:
        report.listed += 1
        if parse_batch_id(batch.id) != batch.id:
            report.unreadable += 1
            report.trouble(f"Gemini lists a batch that can't be asked for: {batch.id[:64]!r}.")
        elif not batch.final:
            if tools.wants(batch):
                running.append(batch)
        elif tools.wants(batch):
            report.final += 1
            yield batch
        else:
            report.final += 1
            report.other_names += 1


def _is_committed(tools: Tools, report: Report, batch: Batch) -> bool | None:
    """Whether what is in the bucket is final for what Gemini lists; None where it can't be read."""
    try:
        summary = read_summary(tools.bucket, batch.id)
    except Incomplete as error:
        report.trouble(str(error))
        return None
    # A list shows state and counts, no results.
    has_results = (
        batch.state is State.SUCCEEDED
        or batch.result_file is not None
        or bool(batch.inline)
        or bool(batch.succeeded_results)
    )
    return not gives_way(summary, batch.state, has_results=has_results)


def _failed_for_good(queues: Queues) -> set[str]:
    """Batches of which a job failed for good: their own or a part's."""
    found = set()
    for name in queues.names:
        for job_id in queues.queue(name).failed_job_registry.get_job_ids(cleanup=False):
            batch = queues.batch_of(job_id)
            if batch:
                found.add(batch)
    return found


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
            logger.warning("event=webhook_reenabled webhook=%s", webhook.id)
        else:
            logger.error(
                "event=webhook_disabled webhook=%s advice=%r",
                webhook.id,
                "Gemini gave up on it: run `batch-receiver register`, or set RECONCILE_REENABLE=on",
            )
    return webhooks


def _is_disabled(webhook: Webhook) -> bool:
    return webhook.disabled_for_failures and any(
        event.startswith("batch.") for event in webhook.subscribed_events
    )


def _groups(elements: "Iterable[_T]") -> "Iterator[Sequence[_T]]":
    group: list[_T] = []
    for element in elements:
        group.append(element)
        if len(group) == _GROUP:
            yield group
            group = []
    if group:
        yield group
