"""Redis: does it answer, will it keep what it is given, and may we do there what we have to?"""

from typing import Any

from redis.exceptions import NoPermissionError, RedisError, ResponseError

from console.doctor.check import Finding, failed, ok, warning
from console.doctor.fact import CannotTell
from console.doctor.place import Place
from workers.contract import Queues
from workers.contract.history.states import Delivered, Names
from workers.contract.redis_words import CLUSTER, in_words
from workers.contract.settings import QUEUE_PREFIX

_OLDEST = (6, 2)
_CLI = 'redis-cli -u "$REDIS_URL"'


def of_redis(place: Place) -> Finding:
    try:
        place.redis.found()
    except RedisError as error:
        return failed(f"Redis does not answer, {in_words(error)}: check REDIS_URL.")
    except ValueError:
        return failed("REDIS_URL is not an address that the Redis client understands.")
    try:
        about = place.info.found()
    except NoPermissionError:
        return ok("It answers. Its user may not ask INFO, so durability and memory can't be told.")
    if about.get("cluster_enabled"):
        return failed(CLUSTER)
    version = str(about.get("redis_version", "unknown"))
    if _numbers(version) < _OLDEST:
        return failed(f"It is Redis {version}: use 6.2 or later.")
    if about.get("loading"):
        return warning("It answers, but is still loading its data.")
    return ok(f"Redis {version} answers.")


def of_durability(place: Place) -> Finding:
    about = _about(place)
    if not about.get("aof_enabled", 1):
        return warning(
            "Redis keeps no append-only file: a crash of it loses what was acknowledged since its last snapshot. Set"
            " appendonly in its configuration, too.",
            f"{_CLI} CONFIG SET appendonly yes",
        )
    if about.get("aof_last_write_status", "ok") != "ok":
        return failed("Redis can't write its append-only file: look at its disk.")
    return ok("Redis keeps an append-only file.")


def of_memory(place: Place) -> Finding:
    about = _about(place)
    policy = about.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        return warning(
            f"Redis may throw acknowledged jobs away when it is full: its maxmemory-policy is {policy}. Set it in its"
            " configuration, too.",
            f"{_CLI} CONFIG SET maxmemory-policy noeviction",
        )
    most, used = int(about.get("maxmemory", 0)), int(about.get("used_memory", 0))
    if most and used > 0.9 * most:
        return warning(f"Redis is nearly full, {used * 100 // most}% of its maxmemory: give it more.")
    return ok("Redis refuses what it has no room for, and throws nothing away.")


def of_rights(place: Place) -> Finding:
    """Redis looks at rights, memory and role when it queues a command of a transaction: this one is never executed."""
    queues = Queues(place.redis.needed(), place.setting(QUEUE_PREFIX))
    commands = _receiver(queues) + (_workers(queues) if place.works else [])
    try:
        refused = _rehearsed(queues, commands)
    except RedisError as error:
        return failed(f"Redis would take no announcement, {in_words(error)}.")
    lacking = [name for name, error in refused if isinstance(error, NoPermissionError)]
    who = "workers" if place.works else "receiver"
    if lacking:
        return failed(
            f"Our user in Redis may not {', '.join(dict.fromkeys(lacking))}: give it what deploy/redis-users.acl lists"
            f" for the {who}."
        )
    if refused:
        return failed(f"Redis would take no announcement, {in_words(refused[0][1])}.")
    return ok(f"Its user may do all that the {who} must.")


def _about(place: Place) -> dict[str, Any]:
    try:
        return place.info.found()
    except NoPermissionError:
        raise CannotTell("Its user may not ask INFO.") from None
    except Exception:  # noqa: BLE001
        raise CannotTell("Can't be told before `redis` is mended.") from None


_Command = tuple[str | int, ...]


def _receiver(queues: Queues) -> list[_Command]:
    """What an announcement is made of."""
    job, names = f"rq:job:{queues.batch_job_id('doctor')}", Names(queues.prefix)
    return [
        ("HSET", job, "status", "queued"),
        ("EXISTS", job),
        ("HGET", job, "status"),
        ("EXPIRE", queues.announcement("doctor"), 1),
        ("HINCRBY", queues.announcement("doctor"), "webhook", 1),
        ("SADD", queues.jobs, "doctor"),
        ("SREM", queues.strangers, "doctor"),
        ("SADD", "rq:queues", f"rq:queue:{queues.batches}"),
        ("RPUSH", f"rq:queue:{queues.batches}", "doctor"),
        ("ZREM", f"rq:failed:{queues.batches}", "doctor"),
        ("DEL", job),
        ("HSET", names.record("doctor"), "state", "announced"),
        ("RPUSH", names.steps("doctor"), "doctor"),
        ("ZMSCORE", names.index(), "doctor"),
        ("ZADD", names.index(), 1, "doctor"),
        ("XADD", names.deliveries(Delivered.ACCEPTED), "*", "batch", "doctor"),
    ]


def _workers(queues: Queues) -> list[_Command]:
    """What a worker does beside: it takes jobs, gives signs of life, schedules, counts."""
    queue = f"rq:queue:{queues.parts}"
    return [
        ("LPOP", queue),
        ("LMOVE", queue, f"rq:intermediate:{queues.parts}", "LEFT", "RIGHT"),
        ("ZADD", f"rq:scheduled:{queues.parts}", 1, "doctor"),
        ("SET", queues.key("pool:doctor"), 1, "EX", 1),
        ("HINCRBY", queues.counters, "doctor", 1),
        ("SSCAN", queues.jobs, 0),
        ("EVALSHA", "0" * 40, 0),
        ("SCRIPT", "EXISTS", "0" * 40),
        ("PUBLISH", "rq:pubsub:doctor", "doctor"),
        ("TIME",),
    ]


def _rehearsed(queues: Queues, commands: list[_Command]) -> list[tuple[str, ResponseError]]:
    """What is refused of the commands, and how. Raises `RedisError` where no transaction is taken at all."""
    pool: Any = queues.connection.connection_pool
    connection = pool.get_connection()
    refused = []
    try:
        connection.send_packed_command(connection.pack_commands([("MULTI",), *commands, ("DISCARD",)]))
        for name, *_ in [("MULTI",), *commands, ("DISCARD",)]:
            try:
                connection.read_response()
            except ResponseError as error:
                refused.append((str(name), error))
    finally:
        connection.disconnect()
        pool.release(connection)
    return refused


def _numbers(version: str) -> tuple[int, ...]:
    parts = version.split(".")[:2]
    return tuple(int(part) for part in parts) if all(part.isdigit() for part in parts) else _OLDEST
