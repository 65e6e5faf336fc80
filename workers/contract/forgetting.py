"""Batches that nobody wants any more: their jobs and what was announced of them are removed. The bucket stays."""

from collections.abc import Collection, Iterable
from contextlib import suppress

from rq.exceptions import NoSuchJobError
from rq.job import JobStatus
from rq.serializers import JSONSerializer

from workers.contract import history
from workers.contract.queues import Queues
from workers.contract.records import DeletableJob


def forget(queues: Queues, batch: str) -> int:
    """Remove every job of a batch that does not run, and what was announced; how many jobs there were."""
    forgotten, _ = _forget(queues, batch, queues.jobs_of(batch))
    return forgotten


def forget_all(queues: Queues, batches: Collection[str]) -> set[str]:
    """The same of many, in one walk through the jobs; those of which a job runs, which is left to end."""
    jobs: dict[str, list[str]] = {batch: [] for batch in batches}
    for job_id in queues.job_ids():
        batch = queues.batch_of(job_id)
        if batch in jobs:
            jobs[batch].append(job_id)
    return {batch for batch, job_ids in jobs.items() if _forget(queues, batch, job_ids)[1]}


def _forget(queues: Queues, batch: str, job_ids: Iterable[str]) -> tuple[int, bool]:
    """How many jobs were removed, and whether one runs."""
    forgotten, is_running = 0, False
    for job_id in job_ids:
        with suppress(NoSuchJobError):
            job = DeletableJob.fetch(job_id, connection=queues.connection, serializer=JSONSerializer)
            if job.get_status() is JobStatus.STARTED:
                is_running = True
                continue
            job.delete()
            queues.connection.srem(queues.jobs, job_id)
            forgotten += 1
    queues.connection.delete(queues.announcement(batch))
    queues.connection.srem(queues.strangers, batch)
    if not is_running:
        told = history.History(queues.connection, queues.prefix)
        told.drop_unfinished(told.names.ref(batch))
    return forgotten, is_running
