"""Jobs that were lost between two commands: popped, and not yet noted by whoever popped them."""

import contextlib

from redis.exceptions import WatchError
from rq.job import Job, JobStatus
from rq.serializers import JSONSerializer

from workers import contract
from workers.contract import Queues, logs
from workers.own_jobs import OwnJob, OwnQueue

logger = logs.named("workers")

# Less than the pause between two looks, so that the second one decides.
ORPHAN_SECONDS = 15.0
_FOUND_AT_ONCE = 1000
_LOST_WITHOUT_A_PLACE = frozenset(
    status.encode() for status in (JobStatus.QUEUED, JobStatus.STARTED, JobStatus.SCHEDULED)
)


def requeue_orphans(queues: Queues, now: float | None = None) -> list[str]:
    """Put back jobs that are in no queue and no registry although their record says that they wait or run.

    A worker on several queues pops with BLPOP; killed before it notes what it popped, it takes the job with it.
    A job is put back when it was seen so at two looks at least 15 seconds apart. Returns the ids put back.
    """
    now = queues.now() if now is None else now
    connection, marks = queues.connection, queues.key("orphans")
    homes = {name: OwnQueue(name, connection=connection) for name in queues.names}
    lost = {contract.text(job_id) for job_id in connection.sscan_iter(queues.jobs, count=_FOUND_AT_ONCE)}
    for home in homes.values():
        lost.difference_update(home.get_job_ids())
        for registry in (home.started_job_registry, home.scheduled_job_registry, home.failed_job_registry):
            lost.difference_update(registry.get_job_ids(cleanup=False))
    orphans = _without_a_place(queues, sorted(lost))
    seen = {contract.text(name): float(at) for name, at in connection.hgetall(marks).items()}
    gone = set(seen) - set(orphans)
    if gone:
        connection.hdel(marks, *gone)
    put_back = []
    for job_id, origin in orphans.items():
        if job_id not in seen:
            connection.hset(marks, job_id, str(now))
        elif abs(now - seen[job_id]) >= ORPHAN_SECONDS and connection.hdel(marks, job_id):
            homes[origin].enqueue_job(OwnJob.fetch(job_id, connection=connection, serializer=JSONSerializer))
            logger.warning("orphan_requeued", job=job_id)
            put_back.append(job_id)
    return put_back


def _without_a_place(queues: Queues, job_ids: list[str]) -> dict[str, str]:
    """Those that claim to wait or run, each with its queue. What has no record any more is forgotten."""
    found: dict[str, str] = {}
    for first in range(0, len(job_ids), _FOUND_AT_ONCE):
        some = job_ids[first : first + _FOUND_AT_ONCE]
        with queues.connection.pipeline() as pipe:
            # Watched: one that is enqueued at this moment must not be forgotten.
            pipe.watch(*map(Job.key_for, some))  # type: ignore[no-untyped-call]
            with queues.connection.pipeline(transaction=False) as reader:
                for job_id in some:
                    reader.hmget(Job.key_for(job_id), "status", "origin")
                records = dict(zip(some, reader.execute(), strict=True))
            ended = [job_id for job_id, (status, _) in records.items() if status is None]
            pipe.multi()
            if ended:
                pipe.srem(queues.jobs, *ended)
            with contextlib.suppress(WatchError):
                pipe.execute()
        for job_id, (status, origin) in records.items():
            if status in _LOST_WITHOUT_A_PLACE and contract.text(origin or "") in queues.names:
                found[job_id] = contract.text(origin)
    return found
