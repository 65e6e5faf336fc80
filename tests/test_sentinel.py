"""The product behind Sentinel: a master that is killed takes nothing with it that was acknowledged."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import redis

from tests.conftest import StartProcess
from tests.receiver.conftest import PATH, Receiver
from tests.receiver.signing import SECRET
from tests.support.deployment import Deployment, result_line
from tests.support.gemini import Gemini
from tests.support.sentinel import SERVICE, Pair, watched_pair
from tests.support.waiting import wait_until
from workers.contract import Queues

BATCHES = 50


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with watched_pair(tmp_path / "redis") as pair:
        yield pair


@pytest.fixture
def serve(start_process: StartProcess) -> Callable[[str], Receiver]:
    def start(redis_url: str) -> Receiver:
        env = {"REDIS_URL": redis_url, "WEBHOOK_SIGNING_SECRET": SECRET}
        process = start_process("serve", "--port", "0", env=env)
        port = process.wait_for_output(rf"listening on http://127\.0\.0\.1:(\d+){PATH}")[1]
        return Receiver(process, int(port))

    return start


@pytest.fixture
def receiver(serve: Callable[[str], Receiver], pair: Pair) -> Receiver:
    return serve(pair.url)


def jobs_at(port: int, batches: list[str]) -> set[str]:
    """Those of the batches that a server has a job of."""
    with redis.Redis(port=port) as client:
        queues = Queues(client)
        return {batch for batch in batches if client.exists(f"rq:job:{queues.batch_job_id(batch)}")}


def until_taken(receiver: Receiver, batch: str) -> None:
    """As Gemini does it: again, until it is told 200."""
    wait_until(lambda: receiver.deliver(batch).status == 200, seconds=60, what=f"a 200 for {batch}")


def test_what_was_acknowledged_outlives_the_master(receiver: Receiver, pair: Pair) -> None:
    first, second = pair.ports
    acknowledged: list[str] = []
    is_dead = threading.Event()

    def deliver(number: int) -> None:
        for count in range(1000):
            if is_dead.is_set():
                return
            batch = f"b{number}-{count}"
            if receiver.deliver(batch).status == 200:
                acknowledged.append(batch)

    with ThreadPoolExecutor(8) as threads:
        running = [threads.submit(deliver, number) for number in range(8)]
        wait_until(lambda: len(acknowledged) >= BATCHES, what="deliveries under way")
        pair.kill(first)
        is_dead.set()
        for each in running:
            each.result()

    assert jobs_at(second, acknowledged) == set(acknowledged)


def test_nothing_is_acknowledged_that_the_replica_does_not_have(receiver: Receiver, pair: Pair) -> None:
    replica = pair.servers[pair.ports[1]]
    assert receiver.deliver("before").status == 200

    replica.send_signal(signal.SIGSTOP)
    try:
        assert receiver.deliver("late").status == 503
    finally:
        replica.send_signal(signal.SIGCONT)

    until_taken(receiver, "late")
    assert jobs_at(pair.ports[1], ["before", "late"]) == {"before", "late"}


def test_a_master_whose_replica_is_dead_by_the_sentinels_word_is_believed_unless_the_address_is_strict(
    receiver: Receiver, pair: Pair, serve: Callable[[str], Receiver]
) -> None:
    strict = serve(f"{pair.url}?replicas=1")
    pair.kill(pair.ports[1])

    until_taken(receiver, "alone")
    assert receiver.send("GET", "/readyz").status == 200
    wait_until(lambda: strict.send("GET", "/readyz").status == 503, what="the loss of the replica")
    assert strict.deliver("strict").status == 503
    assert "too few replicas have it" in strict.process.output
    content = serve(f"{pair.url}?replicas=0")
    assert content.send("GET", "/readyz").status == content.deliver("content").status == 200


def test_readyz_is_503_until_there_is_a_master_again_also_where_the_old_one_comes_back_as_a_replica(
    receiver: Receiver, pair: Pair
) -> None:
    first, second = pair.ports
    assert receiver.send("GET", "/readyz").status == 200

    pair.kill(first)
    assert receiver.send("GET", "/readyz").status == receiver.deliver("between").status == 503
    wait_until(lambda: pair.master == second, seconds=40, what="another master")
    until_taken(receiver, "between")
    pair.start(first)
    wait_until(lambda: _role(first) == "slave", seconds=40, what="the old master as a replica")
    until_taken(receiver, "after")
    assert receiver.send("GET", "/readyz").status == 200
    assert jobs_at(second, ["between", "after"]) == {"between", "after"}


def _role(port: int) -> str:
    with redis.Redis(port=port) as client:
        return str(client.info("replication")["role"])


def test_a_master_that_is_made_a_replica_in_passing_costs_nothing(receiver: Receiver, pair: Pair) -> None:
    assert receiver.deliver("one").status == 200
    with redis.Redis(port=pair.sentinel_port) as sentinel:
        sentinel.execute_command("SENTINEL", "FAILOVER", SERVICE)
    wait_until(lambda: pair.master == pair.ports[1], seconds=40, what="another master")

    until_taken(receiver, "two")
    assert jobs_at(pair.ports[1], ["one", "two"]) == {"one", "two"}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_failover_in_the_middle_of_fifty_batches_loses_none_of_them(
    receiver: Receiver, pair: Pair, start_process: Callable[..., object], gemini: Gemini, tmp_path: Path
) -> None:
    deployment = Deployment(start_process, gemini, pair.url, tmp_path / "bucket")  # type: ignore[arg-type]
    names = [f"b{number:02d}" for number in range(BATCHES)]
    for name in names:
        gemini.put_batch(b"".join(result_line(f"k{n}", "x" * 500) for n in range(40)), batch_id=name)
    work = deployment.work("--workers", "2", PART_BYTES="8000", RECONCILE_INTERVAL_SECONDS="0")

    def tell(name: str) -> None:
        until_taken(receiver, name)
        time.sleep(0.05)  # So that they are under way for a while.

    with ThreadPoolExecutor(4) as threads:
        told = [threads.submit(tell, name) for name in names]
        wait_until(lambda: sum(each.done() for each in told) >= BATCHES // 2, what="the middle")
        pair.kill(pair.ports[0])
        wait_until(lambda: pair.master == pair.ports[1], seconds=40, what="another master")
        pair.start(pair.ports[0])  # As its supervisor does.
        for each in told:
            each.result()

    for name in names:
        assert deployment.wait_for_commit(name, seconds=150)["counts"]["total"] == 40
    assert deployment.run("status", "--json").returncode == 0
    assert work.stop() == 0
