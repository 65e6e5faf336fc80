"""Where sentinels may put a replica in the master's place, what was announced counts once a replica has it too.

Redis replicates after it has answered. WAIT asks for more: it returns once replicas have what one connection wrote. A
master that has no replica may have been replaced already without knowing it, so it is not believed either.
"""

from typing import Any

from redis import Redis
from redis.client import Pipeline

from workers.contract.redis_client import replicas_wanted
from workers.contract.redis_words import NotReplicated

WAIT_MILLISECONDS = 500


def check_replicas(connection: Redis) -> None:
    """Return where an announcement would be replicated as the address wants it.

    Raises:
        NotReplicated: fewer replicas than that follow the master.
        redis.exceptions.NoPermissionError: we may not ask.
    """
    wanted = replicas_wanted(connection)
    if not wanted:
        return
    connection.wait(0, 1)
    about = connection.info("replication").values()
    if sum(isinstance(each, dict) and each.get("state") == "online" for each in about) < wanted:
        raise NotReplicated


def replicating(connection: Redis) -> Redis:
    """A client of the same connections whose transactions end in NotReplicated where no replica has them."""
    return (
        _Replicating(connection_pool=connection.connection_pool)
        if replicas_wanted(connection)
        else connection
    )


class _Replicating(Redis):
    def pipeline(self, transaction: bool = True, shard_hint: Any = None) -> Pipeline:
        kind = _Replicated if transaction else Pipeline
        return kind(self.connection_pool, self.response_callbacks, transaction, shard_hint)


class _Replicated(Pipeline):
    # Here, as WAIT is about the connection that wrote.
    def _execute_transaction(self, connection: Any, *args: Any) -> list[Any]:
        done: list[Any] = super()._execute_transaction(connection, *args)
        wanted = self.connection_pool.connection_kwargs["replicas"]
        connection.send_command("WAIT", wanted, WAIT_MILLISECONDS)
        if connection.read_response() < wanted:
            raise NotReplicated
        return done
