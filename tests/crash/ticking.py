"""Something that happens at the n-th call to the bucket, to a store, to Redis or to Gemini, wherever that is."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import obstore
from redis.connection import AbstractConnection


class Ticks:
    """Counts calls, and does something before the n-th; `names` are those that were counted."""

    def __init__(self, at: int | None, then: Callable[[], None]) -> None:
        self.names: list[str] = []
        self._at = at
        self._then = then

    def tick(self, name: str) -> None:
        self.names.append(name)
        if len(self.names) == self._at:
            self._then()

    def everywhere(self) -> None:
        """From now on and for ever in this process: what goes to Redis, to Gemini and to a store counts."""
        to_redis, to_gemini = AbstractConnection.send_packed_command, httpx.Client.send

        def send_packed_command(connection: Any, *args: Any, **kwargs: Any) -> Any:
            self.tick("redis")
            return to_redis(connection, *args, **kwargs)  # type: ignore[no-untyped-call]

        def send(client: Any, *args: Any, **kwargs: Any) -> Any:
            self.tick("gemini")
            return to_gemini(client, *args, **kwargs)

        for owner, function in ((AbstractConnection, send_packed_command), (httpx.Client, send)):
            setattr(owner, function.__name__, function)
        for name in ("get", "head", "list", "put", "copy", "delete"):
            setattr(obstore, name, self._counted(f"store.{name}", getattr(obstore, name)))

    def _counted(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            self.tick(name)
            return call(*args, **kwargs)

        return counted


class TickingBucket:
    """A bucket of which every call counts, and every piece that is written."""

    def __init__(self, bucket: Any, ticks: Ticks) -> None:
        self._bucket = bucket
        self._ticks = ticks

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._bucket, name)
        if not callable(found):
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            self._ticks.tick(f"bucket.{name}")
            made = found(*args, **kwargs)
            if name == "group":
                return self._group(made)
            return self._block(name, made) if name in {"writer", "outputs"} else made

        return call

    @contextmanager
    def _group(self, made: Any) -> Iterator[Any]:
        with made as inside:
            yield TickingBucket(inside, self._ticks)
            self._ticks.tick("bucket.group.end")

    @contextmanager
    def _block(self, name: str, made: Any) -> Iterator[Any]:
        with made as inside:
            yield _Inside(inside, name, self._ticks)
            self._ticks.tick(f"bucket.{name}.end")


class _Inside:
    def __init__(self, inside: Any, name: str, ticks: Ticks) -> None:
        self._inside = inside
        self._name = name
        self._ticks = ticks

    def write(self, data: bytes) -> None:
        self._ticks.tick(f"bucket.{self._name}.write")
        self._inside.write(data)

    def put(self, *args: Any) -> None:
        self._ticks.tick(f"bucket.{self._name}.put")
        self._inside.put(*args)


def leave(number: int) -> Callable[[], None]:
    """What a signal to this very process does; a stopped one goes on after SIGCONT."""
    return lambda: os.kill(os.getpid(), number)
