"""Redis in words that are fit for a log: no address, no password, nothing that was sent."""

import ssl
from collections.abc import Iterator, Mapping
from typing import Any

from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ClusterCrossSlotError,
    ClusterError,
    MasterDownError,
    MovedError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
)
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.sentinel import MasterNotFoundError

CLUSTER = (
    "REDIS_URL leads to a Redis Cluster, which can't hold a job and its queue in one transaction: give a single Redis,"
    " with replicas if you like."
)


class NotReplicated(RedisTimeoutError):
    """The master may have taken it, and too few replicas have."""


_CLUSTER = "it is a cluster"
# Those that others are a kind of come last.
_WORDS: tuple[tuple[type[Exception], str], ...] = (
    (OutOfMemoryError, "it is full"),
    (ReadOnlyError, "it is a replica that takes no writes"),
    (MasterDownError, "it is a replica that lost its master"),
    (BusyLoadingError, "it is still loading"),
    (ClusterError, _CLUSTER),
    (ClusterCrossSlotError, _CLUSTER),
    (MovedError, _CLUSTER),
    (AuthenticationError, "it refuses our name or password"),
    (MasterNotFoundError, "no sentinel that answers knows a master of this name"),
    (NotReplicated, "too few replicas have it, so a failover could lose it"),
    (RedisTimeoutError, "it does not answer in time"),
)


def in_words(error: BaseException) -> str:
    """Why Redis did not do what it was asked, from an error of redis-py and what caused it."""
    chain = list(_chain(error))
    for cause in chain:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return (
                f"TLS: its certificate is not trusted ({cause.verify_message}); name its CA's file with"
                " ?ssl_ca_certs= in REDIS_URL or in SSL_CERT_FILE"
            )
        if isinstance(cause, ssl.SSLError):
            return f"TLS: no handshake ({cause.reason or type(cause).__name__})"
        if isinstance(cause, OSError) and cause.strerror:
            return f"no connection ({cause.strerror})"
    if isinstance(error, NoPermissionError):
        return f"its user lacks rights: {error}"
    found = (words for kind, words in _WORDS if any(isinstance(cause, kind) for cause in chain))
    return next(found, type(error).__name__)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def warnings(about: Mapping[str, Any]) -> list[str]:
    """Sentences about what can be lived with, from the answer to INFO."""
    found = []
    policy = about.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        found.append(
            "Redis may throw acknowledged jobs away when it is full: set its maxmemory-policy to noeviction"
            f" instead of {policy}."
        )
    if about.get("aof_enabled", 1) == 0:
        found.append(
            "Redis keeps no append-only file, so a crash of it loses what was acknowledged since its last snapshot:"
            " set appendonly to yes."
        )
    return found
