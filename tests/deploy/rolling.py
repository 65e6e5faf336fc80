"""Two receivers behind a proxy are restarted in turn, under load: `python -m tests.deploy.rolling` counts it in full.

Every answer is counted, and whether there is a job for each 2xx.
"""

import itertools
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import redis

from emulator.demo.local_redis import local_redis
from tests.receiver.signing import event, signed
from tests.support.processes import Process
from tests.support.proxies import HOSTS, PATH, Proxy, Receivers, program_of, unchecked
from workers.contract import Queues

_CLIENTS = 20


@dataclass
class Counts:
    """`statuses`: how often each was answered, 0 for none; `exits`: the codes with which receivers ended."""

    statuses: Counter[int] = field(default_factory=Counter)
    without_a_job: int = 0
    exits: set[int] = field(default_factory=set)


def restart_all(
    proxy: Proxy, receivers: Receivers, connection: "redis.Redis", *, http2: bool, times: int, per_second: int
) -> Counts:
    """Deliver all the while; each receiver is restarted so many times, the next one once the last one listens."""
    counter, over, counts = itertools.count(), threading.Event(), Counts()
    accepted: list[str] = []
    pause = _CLIENTS / per_second

    def deliver() -> None:
        with httpx.Client(http2=http2, verify=unchecked(), timeout=40, trust_env=False) as client:
            due = time.monotonic()
            while not over.wait(max(0.0, due - time.monotonic())):
                due += pause
                batch = f"r{next(counter)}"
                body = event(batch)
                try:
                    status = client.post(
                        f"https://localhost:{proxy.port}{PATH}", content=body, headers=signed(body)
                    ).status_code
                except httpx.HTTPError:
                    status = 0
                counts.statuses[status] += 1
                if status // 100 == 2:
                    accepted.append(batch)

    with ThreadPoolExecutor(_CLIENTS) as threads:
        running = [threads.submit(deliver) for _ in range(_CLIENTS)]
        try:
            for _ in range(times):
                for host in HOSTS:
                    counts.exits.add(receivers.restart(host))
        finally:
            over.set()
        for each in running:
            each.result()
    queues = Queues(connection)
    with connection.pipeline(transaction=False) as pipe:
        for batch in accepted:
            pipe.exists(f"rq:job:{queues.batch_job_id(batch)}")
        counts.without_a_job = pipe.execute().count(0)
    return counts


def main(times: int, per_second: int) -> None:
    print(f"each of two receivers restarted {times} times, {per_second} deliveries a second")
    print(
        "| proxy | HTTP | deliveries | not 2xx | 2xx without a job | exits |\n| --- | --- | --- | --- | --- | --- |"
    )
    for kind, http2 in itertools.product(("caddy", "nginx"), (False, True)):
        if program_of(kind) is None:
            print(f"{kind} is not installed")
            continue
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            numbers = itertools.count()

            def start(*args: str, env: Any, folder: Path = folder, stack: ExitStack = stack) -> Process:
                process = Process(list(args), env, folder / f"{next(numbers)}.log")  # noqa: B023
                stack.callback(process.kill)
                return process

            url = stack.enter_context(local_redis(folder / "redis", "--appendonly", "yes"))
            receivers = Receivers(start, url)
            proxy = stack.enter_context(closing(Proxy(kind, folder, receivers.port)))
            proxy.wait_until_up()
            connection = stack.enter_context(redis.Redis.from_url(url))
            found = restart_all(proxy, receivers, connection, http2=http2, times=times, per_second=per_second)
        total = found.statuses.total()
        refused = {status: count for status, count in found.statuses.items() if status // 100 != 2}
        print(
            f"| {kind} | {2 if http2 else 1.1} | {total:,} | {refused or 0} | {found.without_a_job} |"
            f" {sorted(found.exits)} |",
            flush=True,
        )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]) if sys.argv[1:] else (10, 200))
