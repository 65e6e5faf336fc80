"""What of Gemini's list nobody told us of: the batches that ended and have no commit, or one that may be replaced."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import msgspec

from workers.contract import Announcement, Outcome, Queues, Trigger, parse_batch_id
from workers.errors import Incomplete
from workers.gemini.batches import FILE_LIFE_SECONDS, Batch, State, timestamp
from workers.process import Tools
from workers.summary import gives_way, read_summary

GROUP = 100
"""Batches that are looked at together: as many as a page of the list has."""

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


def announce(tools: Tools, queues: Queues, report: Report, now: float, batches: Iterable[Batch]) -> None:
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


def recent(tools: Tools, report: Report, horizon: float, running: list[Batch]) -> Iterator[Batch]:
    """The batches that ended and are ours, of those created since `horizon`; see `ended`.

    The rest of the list is left out where it goes from newer to older batches; in any other order it is read whole.
    """
    return ended(tools, report, _since(tools.gemini.batches(), horizon), running)


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
        if is_ordered and old_in_a_row >= GROUP:
            return


def ended(tools: Tools, report: Report, batches: Iterable[Batch], running: list[Batch]) -> Iterator[Batch]:
    """The batches that ended and are ours. Those of ours that have not ended are added to `running`."""
    for batch in batches:
        report.listed += 1
        if parse_batch_id(batch.id) != batch.id:
            report.unreadable += 1
            report.trouble(f"Gemini lists a batch that can't be asked for: {batch.id[:64]!r}.")
        elif not batch.final:
            if tools.wants(batch):
                running.append(batch)
        else:
            report.final += 1
            if tools.wants(batch):
                yield batch
            else:
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


def _groups(elements: "Iterable[_T]") -> "Iterator[Sequence[_T]]":
    group: list[_T] = []
    for element in elements:
        group.append(element)
        if len(group) == GROUP:
            yield group
            group = []
    if group:
        yield group
