"""Deliveries that came to another path than the receiver's: a short note, for whoever asks why nothing arrives."""

import json
import time
from dataclasses import dataclass

from redis import Redis

from workers.contract.history.states import text

MAX_PATH_CHARACTERS = 120
KEPT_SECONDS = 2 * 86400
"""Gemini repeats a delivery for 24 hours: what is older is mended, or forgotten by Gemini too."""


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """How many there were, and the last one: its path with odd characters escaped, its Unix seconds."""

    count: int
    path: str
    last_at: int


def note(connection: Redis, prefix: str, count: int, path: str) -> None:
    """Add to the note. Raises redis.exceptions.RedisError."""
    key = _key(prefix)
    with connection.pipeline() as pipe:
        pipe.hincrby(key, "count", count)
        pipe.hset(key, mapping={"path": shown(path), "last_at": int(time.time())})
        pipe.expire(key, KEPT_SECONDS)
        pipe.execute()


def read(connection: Redis, prefix: str) -> Elsewhere | None:
    """What was noted lately, if anything. Raises redis.exceptions.RedisError."""
    count, path, last_at = connection.hmget(_key(prefix), "count", "path", "last_at")
    if not count or not path or not last_at:
        return None
    return Elsewhere(int(count), text(path)[:MAX_PATH_CHARACTERS], int(last_at))


def shown(path: str) -> str:
    """A path that strangers chose, as a bounded part of a sentence."""
    return json.dumps(path[:MAX_PATH_CHARACTERS])[1:-1][:MAX_PATH_CHARACTERS]


def _key(prefix: str) -> str:
    return f"{prefix}:elsewhere"
