"""A client for REDIS_URL, built here for every process."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from redis import Redis
from redis.backoff import NoBackoff
from redis.connection import Connection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError, RedisError
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry
from redis.sentinel import Sentinel

from workers.contract.setting.kinds import Followed
from workers.contract.setting.kinds import parse_redis as parse

# A sentinel that does not answer has another one asked; all of them within the receiver's own deadline.
_SENTINEL_SECONDS = 0.4


def clock_of(connection: Redis) -> float:
    """Seconds since 1970 by Redis's clock, the one that all machines share. Raises `redis.exceptions.RedisError`."""
    seconds, microseconds = connection.time()
    return float(seconds) + float(microseconds) / 1e6


def open_client(url: str, **options: Any) -> Redis:
    """A client; nothing is connected yet.

    Args:
        url: as `REDIS_URL`, with redis-py's own options in its query.
        options: redis-py's.

    Raises:
        ValueError: the address, or one of its options, is none that redis-py understands.
    """
    followed = parse(url)
    common: dict[str, Any] = {
        # Else redis-py looks its own version up on the disk for every connection: 2 ms in a fork.
        "driver_info": None,
        # Else it asks for what only Redis Enterprise has, and what the ACL of deploy/ refuses.
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
    }
    try:
        if followed is None:
            client = Redis.from_url(url, **common, **options)
        else:
            client = Redis.from_url(followed.url, **common, **options, **_following(followed, common))
        client.connection_pool.make_connection()
    except TypeError:  # An option that redis-py does not know.
        raise ValueError from None
    return client


def ask(pipe: Any, *commands: tuple[str, ...]) -> list[Any]:
    """Watch and look in one round trip, in a pipeline before its `multi`: redis-py makes one of each command.

    Raises:
        redis.exceptions.RedisError: nothing is watched.
    """
    connection = pipe.connection = pipe.connection or pipe.connection_pool.get_connection()

    def exchange() -> list[Any]:
        connection.send_packed_command(connection.pack_commands(commands))
        return [pipe.parse_response(connection, name) for name, *_ in commands]

    def give_up(_: Exception) -> None:
        connection.disconnect()
        pipe.watching = False

    try:
        return connection.retry.call_with_retry(exchange, give_up)  # type: ignore[no-any-return]
    except RedisError as error:
        give_up(error)  # What it answered to the rest must not be taken for answers to anything else.
        raise


@dataclass(frozen=True, slots=True)
class Replicas:
    """How many replicas have to have what is acknowledged; `is_strict` where the address says so."""

    least: int
    is_strict: bool


def replicas_wanted(client: Redis) -> Replicas:
    """None where no failover is foreseen; one where sentinels are followed and the address says nothing else."""
    if "sentinel" not in client.connection_pool.connection_kwargs:
        return Replicas(0, is_strict=True)
    said: int | None = client.connection_pool.connection_kwargs["replicas"]
    return Replicas(1 if said is None else said, is_strict=said is not None)


def is_alone(connection: Any) -> bool:
    """Whether the sentinels call the server of this connection the master, and none of them sees a replica alive.

    Raises:
        redis.exceptions.ConnectionError: no sentinel answers.
    """
    return isinstance(connection, _Following) and connection.is_alone()


class _Following(Connection):
    """A connection to whichever server the sentinels call the master when it is made.

    redis-py's own SentinelManagedConnection holds on to its pool, which RQ builds anew in each child.
    """

    def __init__(self, *, sentinel: Sentinel, service: str, replicas: int | None, **options: Any) -> None:
        self._sentinel = sentinel
        self._service = service
        del replicas  # A fact of the client, see above.
        super().__init__(**options)  # type: ignore[no-untyped-call]

    def is_alone(self) -> bool:
        if self._sentinel.discover_master(self._service) != (self.host, self.port):  # type: ignore[no-untyped-call]
            return False
        for sentinel in self._sentinel.sentinels:
            with suppress(RedisError):
                if any(_lives(replica) for replica in sentinel.sentinel_slaves(self._service)):
                    return False
        return True

    def _connect(self) -> Any:
        self.host, self.port = self._sentinel.discover_master(self._service)  # type: ignore[no-untyped-call]
        return super()._connect()  # type: ignore[no-untyped-call]

    def read_response(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().read_response(*args, **kwargs)
        except ReadOnlyError as error:
            # A master that has become a replica: the next connection asks the sentinels again.
            self.disconnect()  # type: ignore[no-untyped-call]
            raise RedisConnectionError from error


def _lives(replica: Mapping[str, Any]) -> bool:
    """By what a sentinel says of it. One that it has no connection to is on its way to being called down."""
    return not {"s_down", "o_down", "disconnected"} & set(str(replica["flags"]).split(","))


def _following(followed: Followed, common: dict[str, Any]) -> dict[str, Any]:
    sentinel = Sentinel(  # type: ignore[no-untyped-call]
        followed.sentinels,
        sentinel_kwargs={
            **common,
            **followed.options,
            "socket_timeout": _SENTINEL_SECONDS,
            "socket_connect_timeout": _SENTINEL_SECONDS,
            "retry": Retry(NoBackoff(), 0),
        },
    )
    return {
        "connection_class": _Following,
        "sentinel": sentinel,
        "service": followed.service,
        "replicas": followed.replicas,
    }
