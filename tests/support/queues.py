"""The queues under their default names, for tests that look into Redis."""

from redis import Redis
from rq import Queue

from workers.contract import Queues

BATCHES = "batch-receiver-batches"
PARTS = "batch-receiver-parts"


def queue(connection: Redis, name: str) -> Queue:
    return Queues(connection).queue(name)
