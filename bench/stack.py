"""The product as it is deployed: processes of its own, a Redis with its append-only file, and a local Gemini."""

import base64
import json
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from urllib.parse import unquote, urlsplit

import httpx
from redis import Redis

from bench.data import blocks
from emulator.demo.local_redis import local_redis
from tests.support.gemini import Gemini
from tests.support.processes import Process
from workers.contract import Announcement, Queues, Trigger

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()

_COMMIT_SECONDS = 240.0
_LOOK_SECONDS = 0.002
_TYPE = "type.googleapis.com/google.ai.generativelanguage.v1main.GenerateContentBatch"


@dataclass(frozen=True, slots=True)
class Results:
    """A result file at Gemini."""

    file: str
    lines: int


@dataclass
class Stack:
    """What is running. `scratch` holds logs and whatever else goes away with it."""

    gemini: Gemini
    redis_url: str
    scratch: Path
    _numbers: Iterator[int] = field(default_factory=count)

    def store(self, lines: Iterable[bytes], amount: int) -> Results:
        batch = self.gemini.put_batch(blocks(lines), batch_id=f"source-{next(self._numbers)}")
        return Results(f"files/batch-{batch}", amount)

    def new_batch(self, results: Results) -> str:
        """A batch that nobody has processed yet, with this result file."""
        name = f"bench-{next(self._numbers):06d}"
        output = {"responsesFile": results.file}
        amount = str(results.lines)
        metadata = {
            "@type": _TYPE,
            "model": "models/gemini-2.5-flash",
            "name": f"batches/{name}",
            "state": "BATCH_STATE_SUCCEEDED",
            "batchStats": {"requestCount": amount, "successfulRequestCount": amount},
            "output": output,
        }
        operation = {"name": f"batches/{name}", "metadata": metadata, "done": True, "response": output}
        return self.gemini.put_operation(operation)

    @contextmanager
    def work(self, workers: int, storage_url: str, **settings: str) -> Iterator[Process]:
        """A pool of idle workers."""
        env = {**self.gemini.env, "REDIS_URL": self.redis_url, "STORAGE_URL": storage_url, **settings}
        number = next(self._numbers)
        pool = Process(["work", "--workers", str(workers)], env, self.scratch / "logs" / f"work-{number}.log")
        try:
            pool.wait_for_output("event=started")
            with Redis.from_url(self.redis_url) as connection:
                wait(lambda: idle_workers(connection) == workers, "idle workers")
            yield pool
        finally:
            pool.kill()  # Its workers ask the kernel to go with it.
            with Redis.from_url(self.redis_url) as connection:
                connection.flushall()

    @contextmanager
    def serve(self) -> Iterator[tuple[str, Process]]:
        """The receiver, and the address of its webhook."""
        env = {"REDIS_URL": self.redis_url, "WEBHOOK_SIGNING_SECRET": SECRET}
        number = next(self._numbers)
        receiver = Process(["serve", "--port", "0"], env, self.scratch / "logs" / f"serve-{number}.log")
        try:
            yield receiver.wait_for_output(r"listening on (http://\S+)")[1], receiver
        finally:
            receiver.kill()

    def announce(self, *batches: str) -> None:
        with Redis.from_url(self.redis_url) as connection:
            Queues(connection).announce([Announcement(batch, Trigger.WEBHOOK) for batch in batches])

    def seconds_to_commit(self, bucket: str, *batches: str) -> float:
        """From announcing batches to the last one's `batch.json` in the folder of a `file:///` URL."""
        summaries = [folder_of(bucket) / batch / "batch.json" for batch in batches]
        began = time.perf_counter()
        self.announce(*batches)
        wait(lambda: all(summary.exists() for summary in summaries), "batch.json")
        return time.perf_counter() - began


@contextmanager
def running(scratch: Path) -> Iterator[Stack]:
    """Redis and Gemini; their files are below `scratch`, but for result files, which Gemini keeps as it does."""
    with local_redis(scratch / "redis", "--appendonly", "yes") as redis_url:
        gemini = Gemini(scratch / "logs" / "gemini.log")
        try:
            yield Stack(gemini, redis_url, scratch)
        finally:
            gemini.close()


def idle_workers(connection: Redis) -> int:
    """How many wait in Redis for a job: a worker that has registered may still be busy starting."""
    return sum("b" in client["flags"] for client in connection.client_list())


def folder_of(url: str) -> Path:
    return Path(unquote(urlsplit(url).path))


def wait_until_tidy(bucket: str, *batches: str) -> None:
    """Until what committed batches needed on the way is gone from a folder."""
    for batch in batches:
        wait(partial(_is_gone, folder_of(bucket) / "_work" / batch), "tidying up")


def remove_batch(bucket: str, *batches: str) -> None:
    """Committed batches, out of a folder."""
    wait_until_tidy(bucket, *batches)
    for batch in batches:
        shutil.rmtree(folder_of(bucket) / batch)


def _is_gone(folder: Path) -> bool:
    return not folder.exists()


def signed(batch: str, sign: Callable[[str, int, bytes], str]) -> tuple[bytes, dict[str, str]]:
    """The body and headers of an event about a batch."""
    event = {"type": "batch.succeeded", "version": "v1", "data": {"id": batch}}
    body = json.dumps(event).encode()
    seconds = int(time.time())
    identifier = f"msg_{batch}"
    headers = {
        "content-type": "application/json",
        "webhook-id": identifier,
        "webhook-timestamp": str(seconds),
        "webhook-signature": sign(identifier, seconds, body),
    }
    return body, headers


def post(client: httpx.Client, url: str, event: tuple[bytes, dict[str, str]]) -> None:
    body, headers = event
    client.post(url, content=body, headers=headers).raise_for_status()


def wait(condition: Callable[[], object], what: str, seconds: float = _COMMIT_SECONDS) -> None:
    """Look every 2 ms: half of that is the mean error of what is timed with it."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not come within {seconds:g} s")
        time.sleep(_LOOK_SECONDS)
