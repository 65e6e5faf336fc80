"""A load of signed events, each about a batch of its own. Prints one JSON document.

`python -m bench.load PORT CONNECTIONS SECONDS PER_SECOND`. With PER_SECOND 0 every connection sends its next event
as soon as it has its answer; otherwise events are due at a steady rate, and their time counts from when they were due.
"""

import asyncio
import gc
import json
import os
import sys
import time
from collections import deque
from collections.abc import Iterator
from itertools import cycle
from math import ceil
from typing import cast

import uvloop

from bench.stack import signed
from emulator.signing import sign_v1

_MOST_PER_SECOND = 40_000
_OK = b"HTTP/1.1 200"


class Connection(asyncio.Protocol):
    """One request at a time; what is due while one is on its way waits."""

    def __init__(self, load: "Load") -> None:
        self._load = load
        self._waiting: deque[float] = deque()
        self._sent: float | None = None
        self._answer = b""
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but name.

    def send(self, due: float) -> None:
        if self._sent is not None:
            self._waiting.append(due)
            return
        request = next(self._load.requests, None)
        if request is None:
            self._load.exhausted = True
            return
        self._sent = due
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._answer += data
        if not _is_whole(self._answer) or self._sent is None:
            return
        now = time.perf_counter()
        self._load.took.append(now - self._sent)
        self._load.refused += not self._answer.startswith(_OK)
        self._answer, self._sent = b"", None
        if self._waiting:
            self.send(self._waiting.popleft())
        elif not self._load.per_second and now < self._load.ends:
            self.send(now)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._load.lost += self._sent is not None


class Load:
    """What is sent, and what became of it."""

    def __init__(self, requests: Iterator[bytes], seconds: float, per_second: int) -> None:
        self.requests = requests
        self.seconds = seconds
        self.per_second = per_second
        self.ends = 0.0
        self.took: list[float] = []
        self.refused = self.lost = 0
        self.exhausted = False

    async def run(self, port: int, connections: int) -> dict[str, float]:
        loop = asyncio.get_running_loop()
        protocols = []
        for _ in range(connections):
            _, protocol = await loop.create_connection(lambda: Connection(self), "127.0.0.1", port)
            protocols.append(protocol)
        began = time.perf_counter()
        self.ends = began + self.seconds
        if self.per_second:
            await self._at_a_steady_rate(protocols, began)
        else:
            for protocol in protocols:
                protocol.send(began)
            await asyncio.sleep(self.seconds)
        ended = time.perf_counter()
        done = len(self.took)
        await asyncio.sleep(0.2)  # For those that are on their way.
        for protocol in protocols:
            protocol.transport.close()
        took = sorted(self.took)
        return {
            "per_second": done / (ended - began),
            "p50": took[len(took) // 2],
            "p99": took[ceil(len(took) * 0.99) - 1],
            "answers": len(took),
            "not_200": self.refused + self.lost,
            "exhausted": self.exhausted,
        }

    async def _at_a_steady_rate(self, protocols: list[Connection], began: float) -> None:
        turns = cycle(protocols)
        for number in range(int(self.seconds * self.per_second)):
            due = began + number / self.per_second
            ahead = due - time.perf_counter()
            if ahead > 0:
                await asyncio.sleep(ahead)
            next(turns).send(due)


def requests(count: int, secret: str) -> list[bytes]:
    """Whole HTTP requests, signed."""
    run = f"{os.getpid()}-{time.time_ns()}"
    made = []
    for number in range(count):
        body, headers = signed(f"{run}-{number}", lambda *content: sign_v1(secret, *content))
        lines = ["POST /webhooks/gemini HTTP/1.1", "host: 127.0.0.1", f"content-length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        made.append("\r\n".join([*lines, "", ""]).encode() + body)
    return made


def _is_whole(answer: bytes) -> bool:
    head, end, body = answer.partition(b"\r\n\r\n")
    if not end:
        return False
    _, _, length = head.lower().partition(b"content-length:")
    return len(body) >= int(length.split(b"\r\n", 1)[0] or 0)


def main(port: str, connections: str, seconds: str, per_second: str) -> None:
    count = int(float(seconds) * (int(per_second) or _MOST_PER_SECOND)) + int(connections)
    made = requests(count, os.environ["WEBHOOK_SIGNING_SECRET"])
    load = Load(iter(made), float(seconds), int(per_second))
    gc.freeze()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(load.run(int(port), int(connections)))))


if __name__ == "__main__":
    main(*sys.argv[1:])
