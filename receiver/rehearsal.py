"""Would Redis take an announcement? Asked with some of no batch, which are discarded instead of executed.

Redis looks at rights, memory, role and disk when it queues a command of a transaction. So this leaves nothing behind,
and is refused where a real announcement would be, with the same error.
"""

from typing import Any

from redis import Redis
from redis.client import Pipeline
from redis.exceptions import NoPermissionError, ResponseError

from receiver.replicas import check_replicas
from receiver.room import check_room
from workers.contract import Announcement, Queues, Trigger

# One character too long for batches. Two, whose keys are in two slots: a cluster refuses to watch them, where it would
# refuse an announcement only when it is executed.
_NO_BATCHES = ("0" * 129, "1" * 129)


def rehearse(connection: Redis, prefix: str) -> None:
    """Return where an announcement would be taken at the moment; nothing is written.

    Raises:
        redis.exceptions.RedisError: what an announcement would meet. Of the transaction's commands a NoPermissionError
            names every one that is not allowed.
    """
    check_room(connection)
    check_replicas(connection)
    stage = _Stage(connection_pool=connection.connection_pool)
    Queues(stage, prefix).announce([Announcement(each, Trigger.WEBHOOK) for each in _NO_BATCHES])


class _Stage(Redis):
    def pipeline(self, transaction: bool = True, shard_hint: Any = None) -> Pipeline:
        kind = _Rehearsal if transaction else Pipeline
        return kind(self.connection_pool, self.response_callbacks, transaction, shard_hint)


class _Rehearsal(Pipeline):
    def execute(self, raise_on_error: bool = True) -> list[Any]:
        del raise_on_error
        commands = [("MULTI",), *(args for args, _ in self.command_stack), ("DISCARD",)]
        connection: Any = self.connection  # It is there since keys were watched.
        refused: dict[str, ResponseError] = {}
        try:
            connection.send_packed_command(connection.pack_commands(commands))
            for name, *_ in commands:
                try:
                    connection.read_response()
                except ResponseError as error:
                    refused[str(name)] = error
        except BaseException:
            connection.disconnect()  # Answers may be on their way that nobody would read.
            raise
        finally:
            self.reset()
        _raise_first(refused)
        return []


def _raise_first(refused: dict[str, ResponseError]) -> None:
    not_allowed = [name for name, error in refused.items() if isinstance(error, NoPermissionError)]
    if not_allowed:
        raise NoPermissionError(", ".join(not_allowed))
    for error in refused.values():
        raise error
