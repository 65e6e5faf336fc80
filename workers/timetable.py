"""When `reconcile` runs, over all pools: by Redis's clock, since those of several machines differ."""

from collections.abc import Sequence

from workers.contract import Queues, text

LONG_LOOK_SECONDS = 86400
GLANCE_SECONDS = 120
"""How often, at most, it is looked whether a batch that was running has ended."""

_RUNNING = "reconcile:running"
_RUNNING_MOST = 1000


def due(queues: Queues, interval_seconds: int) -> bool:
    """Whether it is time for the next run, over all workers; whoever is told so has to bring it on.

    The first run comes an interval after the first worker of
    a new Redis, later ones also right after an outage.
    """
    connection, key, now = queues.connection, queues.key("reconcile:last"), queues.now()
    with connection.pipeline() as pipe:
        pipe.set(key, now, nx=True)
        pipe.get(key)
        last = text(pipe.execute()[1])
    # Far in the future only where Redis's own clock was set back.
    if abs(now - float(last)) < interval_seconds:
        return False
    # GETSET: of several workers at the same moment, the one that replaces the old time is the one that runs.
    return connection.getset(key, now) in {last, last.encode()}


def glance_due(queues: Queues, interval_seconds: int) -> bool:
    """Whether it is time for a glance; whoever is told so has to bring it on."""
    connection = queues.connection
    if interval_seconds <= GLANCE_SECONDS or not connection.exists(queues.key(_RUNNING)):
        return False
    return bool(connection.set(queues.key("reconcile:glance"), "1", nx=True, ex=GLANCE_SECONDS))


def long_look_due(queues: Queues) -> bool:
    """Whether this run is the one of the day that looks at all batches whose results can still be there."""
    return bool(queues.connection.set(queues.key("reconcile:long"), "1", nx=True, ex=LONG_LOOK_SECONDS))


def running(queues: Queues) -> set[str]:
    """The batches that were running at the last look."""
    return {text(batch) for batch in queues.connection.smembers(queues.key(_RUNNING))}


def note_running(queues: Queues, batches: Sequence[str]) -> None:
    key = queues.key(_RUNNING)
    with queues.connection.pipeline() as pipe:
        pipe.delete(key)
        if batches:
            pipe.sadd(key, *batches[:_RUNNING_MOST])
            pipe.expire(key, LONG_LOOK_SECONDS)
        pipe.execute()
