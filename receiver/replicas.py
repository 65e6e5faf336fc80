"""Where sentinels may put a replica in the master's place, what was announced counts once a replica has it too.

Redis replicates after it has answered. WAIT asks for more: it returns once replicas have what one connection wrote. A
master that has no replica may have been replaced already without knowing it, so it is not believed either, unless the
sentinels themselves call it the master and see no replica alive: then there is nobody to wait for.
"""

import time
from typing import Any

from redis import Redis
from redis.client import Pipeline

from workers.contract.redis_client import Replicas, is_alone, replicas_wanted
from workers.contract.redis_words import NotReplicated

WAIT_MILLISECONDS = 500
EXCUSED_SECONDS = 1.0
"""How long the sentinels are believed that there is no replica; a new one is not fit to be master sooner."""


def check_replicas(connection: Redis) -> None:
    """Return where an announcement would be replicated as the address wants it.

    Raises:
        NotReplicated: fewer replicas than that follow the master.
        redis.exceptions.NoPermissionError: we may not ask.
    """
    wanted = replicas_wanted(connection)
    if not wanted.least:
        return
    connection.wait(0, 1)
    about = connection.info("replication").values()
    if sum(isinstance(each, dict) and each.get("state") == "online" for each in about) >= wanted.least:
        return
    pool = connection.connection_pool
    held = pool.get_connection()
    try:
        if wanted.is_strict or not is_alone(held):
            raise NotReplicated
    finally:
        pool.release(held)


def replicating(connection: Redis) -> Redis:
    """A client of the same connections whose transactions end in NotReplicated where no replica has them."""
    wanted = replicas_wanted(connection)
    return _Replicating(connection, wanted) if wanted.least else connection


class _Replicating(Redis):
    def __init__(self, connection: Redis, wanted: Replicas) -> None:
        super().__init__(connection_pool=connection.connection_pool)
        self.wanted = wanted
        self.excused_until = 0.0

    def pipeline(self, transaction: bool = True, shard_hint: Any = None) -> Pipeline:
        if not transaction:
            return super().pipeline(transaction, shard_hint)
        pipe = _Replicated(self.connection_pool, self.response_callbacks, transaction, shard_hint)
        pipe.ours = self
        return pipe


class _Replicated(Pipeline):
    ours: _Replicating

    # Here, as WAIT is about the connection that wrote.
    def _execute_transaction(self, connection: Any, *args: Any) -> list[Any]:
        done: list[Any] = super()._execute_transaction(connection, *args)
        wanted = self.ours.wanted
        if time.monotonic() < self.ours.excused_until:
            return done
        connection.send_command("WAIT", wanted.least, WAIT_MILLISECONDS)
        if connection.read_response() < wanted.least:
            if wanted.is_strict or not is_alone(connection):
                raise NotReplicated
            self.ours.excused_until = time.monotonic() + EXCUSED_SECONDS
        return done
