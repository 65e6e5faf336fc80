"""Receivers and workers on machines of their own, each cut off in the middle of its work, by clocks that differ."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import psutil
import pytest
import redis

from emulator.demo.local_redis import local_redis
from tests.support.clock import ahead
from tests.support.deployment import result_line
from tests.support.gemini import Gemini
from tests.support.machines import Machine, Network, can_have_machines
from tests.support.processes import Process
from tests.support.s3 import S3, s3_server
from tests.support.waiting import wait_until

GEMINI = 8081
RECEIVER = 8080
LINES = 200
BATCHES = 36
APART_SECONDS = 120
# Longer than a worker's heartbeat is believed, and than the pause between two looks for lost jobs.
CUT_SECONDS = 45

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not can_have_machines(), reason="network namespaces need root, ip and iptables"),
]


class Services(NamedTuple):
    network: Network
    redis_port: int
    s3: S3
    gemini: Gemini
    gemini_at: Machine

    @property
    def store_port(self) -> int:
        return port_of(self.s3.endpoint)

    def machine(self) -> Machine:
        made = self.network.machine()
        for port in (self.redis_port, self.store_port):
            made.bring(port, self.network.host, port)
        made.bring(GEMINI, self.gemini_at.host, port_of(self.gemini.url))
        return made

    def webhook(self, machine: Machine, port: int) -> str:
        """Subscribes a receiver, whom Gemini finds at a port of its own machine; its signing secret."""
        self.gemini_at.bring(port, machine.host, RECEIVER)
        webhook = self.gemini.create_webhook(f"http://127.0.0.1:{port}/webhooks/gemini")
        return str(webhook["new_signing_secret"])

    @property
    def env(self) -> dict[str, str]:
        """As it is on each machine."""
        return {
            **self.s3.env,
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.store_port}",
            "STORAGE_URL": f"{self.s3.url}/results",
            "REDIS_URL": f"redis://127.0.0.1:{self.redis_port}/0",
            "GEMINI_API_KEY": self.gemini.api_key,
            "GOOGLE_GEMINI_BASE_URL": f"http://127.0.0.1:{GEMINI}",
            "RECONCILE_INTERVAL_SECONDS": "20",
        }


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    with (
        Network() as network,
        local_redis(tmp_path, "--bind", "127.0.0.1", network.host, "--protected-mode", "no") as redis_url,
        s3_server(tmp_path, network.host) as s3,
    ):
        machine = network.machine()
        options = ("--host", machine.host, "--retry-first", "1", "--retry-max", "5")
        with closing(Gemini(tmp_path / "gemini.log", *options, before=machine.before)) as gemini:
            yield Services(network, port_of(redis_url), s3, gemini, machine)


def port_of(url: str) -> int:
    return urlsplit(url).port or 0


def is_at_work(client: redis.Redis, pool: Process) -> bool:
    """Whether a worker of this pool has a job."""
    pids = {str(child.pid).encode() for child in psutil.Process(pool.pid).children()}
    return any(
        pid in pids and state == b"busy"
        for pid, state in (client.hmget(key, "pid", "state") for key in client.smembers("rq:workers"))
    )


def test_machines_that_are_cut_off_in_the_middle_by_clocks_two_minutes_apart_commit_every_batch_once(
    services: Services, start_process: Callable[..., Process], tmp_path: Path
) -> None:
    gemini = services.gemini
    env = services.env
    receivers = []
    for port in (8001, 8002):
        machine = services.machine()
        secret = services.webhook(machine, port)
        serve = start_process(
            "serve",
            "--host",
            machine.host,
            "--port",
            str(RECEIVER),
            env={"REDIS_URL": env["REDIS_URL"], "WEBHOOK_SIGNING_SECRET": secret},
            before=machine.before,
        )
        serve.wait_for_output("listening on")
        receivers.append(machine)
    machines, pools = [], []
    for number in range(3):
        machine = services.machine()
        clock = ahead(APART_SECONDS, tmp_path) if number == 1 else {}
        pool = start_process("work", "--workers", "2", env={**env, **clock}, before=machine.before)
        pool.wait_for_output("event=started")
        machines.append(machine)
        pools.append(pool)
    gemini.fault("throttle", value=20_000, times=0)
    raw = b"".join(result_line(f"request-{number}", "x" * 1000) for number in range(LINES))
    batches = []

    def announce(count: int) -> None:
        for _ in range(count):
            batches.append(gemini.put_batch(raw))
            gemini.announce(batches[-1])

    with redis.Redis(port=services.redis_port) as client:
        announce(BATCHES // 3)
        for pool in pools[:2]:
            wait_until(lambda pool=pool: is_at_work(client, pool), what="a job")  # type: ignore[misc]
        machines[0].cut(services.redis_port)
        machines[1].cut(services.store_port)
        receivers[0].cut(services.redis_port)
        announce(BATCHES // 3)
        time.sleep(CUT_SECONDS)
        for each in (*machines, *receivers):
            each.heal()
        announce(BATCHES // 3)
        wait_until(lambda: is_at_work(client, pools[2]), what="a job of the third")
        machines[2].cut(services.redis_port, services.store_port)
        time.sleep(CUT_SECONDS)
        machines[2].heal()
        gemini.clear_faults()

        store = services.s3.raw_store("results")

        def names(prefix: str) -> list[str]:
            return [each["path"] for page in store.list(prefix) for each in page]

        def committed() -> set[str]:
            return {
                name.split("/")[0] for name in names("") if name.endswith("/batch.json") and name[0] != "_"
            }

        wait_until(lambda: committed() >= set(batches), seconds=200, what="every commit")
        wait_until(lambda: not names("_work/"), seconds=90, what="tidying up")
        for job in client.scan_iter("rq:job:*"):
            what = f"the end of {job} {client.hgetall(job)}"
            wait_until(lambda job=job: not client.exists(job), seconds=200, what=what)  # type: ignore[misc]
        wait_until(
            lambda: {each["state"] for each in gemini.deliveries()} == {"delivered"}, what="every delivery"
        )

    for batch in batches:
        summary = json.loads(bytes(store.get(f"{batch}/batch.json").bytes()))
        assert (summary["revision"], summary["counts"]["succeeded"], summary["warnings"]) == (1, LINES, [])
    for batch in (batches[0], batches[len(batches) // 2], batches[-1]):
        checked = start_process("verify", batch, env=env, before=machines[0].before)
        assert checked.wait() == 0, checked.output
    for pool in pools:
        assert pool.stop() == 0
        assert "Process Worker" not in pool.output
