"""What `work` needs, and whether there is anybody who works: the bucket, the workers, `reconcile`."""

from typing import Any

from redis.exceptions import RedisError

from console import life
from console.doctor.check import Finding, failed, ok, warning
from console.doctor.fact import CannotTell
from console.doctor.place import Place
from workers.bucket.probe import probe_apart
from workers.contract import text
from workers.contract.history.states import Names
from workers.contract.redis_words import in_words
from workers.contract.settings import RECONCILE_INTERVAL_SECONDS, STORAGE_URL
from workers.errors import WorkerError

_LAST_GOOD = "reconcile_last_success_timestamp_seconds"
_SOON = 2.5
"""How many intervals late a run of reconcile may be."""


def of_bucket(place: Place) -> Finding:
    if not place.works:
        raise CannotTell("No STORAGE_URL here: run it where `batch-receiver work` runs, too.")
    url = place.setting(STORAGE_URL)
    try:
        remarks = probe_apart(url, place.environment)
    except WorkerError as error:
        return failed(str(error))
    if remarks:
        return warning(f"It can be used. {' '.join(remarks)}")
    return ok(f"{url}: objects are written, read, listed, created once, copied and deleted.")


def of_workers(place: Place) -> Finding:
    try:
        seen = life.look(place.queues())
    except RedisError as error:
        raise CannotTell(f"Redis does not say, {in_words(error)}.") from None
    if seen.trouble:
        return failed(seen.trouble, None if seen.wanted else "batch-receiver work --workers 4")
    oldest = max(queue.oldest_seconds for queue in seen.queues)
    waiting = sum(queue.waiting for queue in seen.queues)
    queued = f"{waiting} jobs wait, the oldest for {oldest:.0f} s" if waiting else "nothing waits"
    pools = f"{len(seen.pools)} `work` process{'es' if len(seen.pools) > 1 else ''}"
    return ok(f"{seen.alive} worker{'s' if seen.alive > 1 else ''} of {pools} alive; {queued}.")


def of_reconcile(place: Place) -> Finding:
    interval = place.setting(RECONCILE_INTERVAL_SECONDS)
    queues = place.queues()
    try:
        said: Any = queues.connection.hget(Names(queues.prefix).metrics, _LAST_GOOD)
        now = queues.now()
    except RedisError as error:
        raise CannotTell(f"Redis does not say, {in_words(error)}.") from None
    if not interval:
        return warning("RECONCILE_INTERVAL_SECONDS is 0: a batch whose webhook is lost is never found.")
    if said is None:
        return warning(
            "It has not ended without trouble yet: `batch-receiver work` runs it, or do it yourself.",
            place.command("reconcile"),
        )
    ago = now - float(text(said))
    if ago > _SOON * interval:
        return failed(
            f"The last run without trouble ended {ago / 60:.0f} minutes ago, and one is due every {interval / 60:g}: is"
            " `batch-receiver work` running?",
            place.command("reconcile"),
        )
    return ok(f"The last run ended {ago / 60:.0f} minutes ago, without trouble.")
