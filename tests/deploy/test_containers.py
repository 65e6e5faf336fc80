"""Image and compose in podman, from the previous commit on: `make test-deploy`. Each test follows on the one before."""

import itertools
import os
import re
import shutil
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.receiver.signing import SECRET
from tests.support.containers import CONFINED, EMULATOR, Stack, choose, client, podman
from tests.support.deployment import result_line
from tests.support.processes import ROOT
from tests.support.waiting import wait_until

COMPOSE = os.environ.get("BATCH_RECEIVER_COMPOSE", "")
"""Where podman-compose is: set by `make test-deploy`, which also makes the images, and gives a network of its own."""
CONSOLE = "http://127.0.0.1:8090/batches.json"
CLIENTS = 6
KILL_WORKERS = """
import os, signal
def parent_of(pid):
    with open(f"/proc/{pid}/stat") as stat:
        return int(stat.read().rpartition(")")[2].split()[1])
ours = [int(each) for each in os.listdir("/proc") if each.isdigit() and int(each) != os.getpid()]
pool = next(pid for pid in ours if parent_of(pid) == 1)
workers = [pid for pid in ours if parent_of(pid) == pool]
for worker in workers:
    os.kill(worker, signal.SIGKILL)
print(len(workers))
"""
"""The pool is what the container's first process has started."""
PREVIOUS = Path(os.environ.get("BATCH_RECEIVER_PREVIOUS", ""))
"""The source of the commit before, checked out."""

pytestmark = [
    pytest.mark.skipif(not COMPOSE, reason="containers are tried by `make test-deploy`"),
    pytest.mark.skipif(shutil.which("podman") is None, reason="podman is not installed"),
    pytest.mark.timeout(900),
]


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    choose("previous")
    # Not below pytest's own folder, which another session may tidy up.
    with tempfile.TemporaryDirectory() as folder:
        stack = Stack(Path(folder), COMPOSE)
        try:
            stack.forget()
            stack.up(PREVIOUS)
            yield stack
        finally:
            stack.remove()


def test_what_the_previous_version_took_the_next_one_commits(stack: Stack) -> None:
    stack.start_emulator()
    stack.put_batch("old", result_line("a"))
    with client() as http:
        assert stack.deliver(http, "old") == 200
        stack.summary("old")
        assert set(stack.stop(stack.of("workers")).values()) == {0}
        assert stack.deliver(http, "between") == 200

    choose("next")
    stack.up(ROOT, "--scale", "receiver=2")
    (workers,) = stack.of("workers")
    assert '"state": "waiting"' in podman("exec", workers, "batch-receiver", "status", "between", "--json")
    stack.start_emulator()
    stack.put_batch("between", result_line("a"))
    # It has found no Gemini meanwhile, and would take its time.
    podman("exec", workers, "batch-receiver", "replay", "between")

    assert stack.summary("between")["counts"]["total"] == 1
    assert stack.summary("old")["revision"] == 1


def test_a_delivery_through_caddy_meets_a_503_and_is_committed_by_the_scheduler(stack: Stack) -> None:
    stack.put_batch("later", result_line("a"))
    stack.ask("POST", "faults", b'{"kind": "status", "match": "GET /v1beta/batches/later", "value": 503}')

    with client() as http:
        assert stack.deliver(http, "later") == 200

    assert stack.summary("later")["counts"]["total"] == 1
    asked = [each for each in stack.ask("GET", "requests")["requests"] if each["path"].endswith("/later")]
    assert asked[0]["status"] == 503


def test_every_service_is_healthy_read_only_and_without_capabilities(stack: Stack) -> None:
    for service in ("receiver", "workers"):
        for name in stack.of(service):
            status = podman("exec", name, "cat", "/proc/1/status")
            assert re.findall(r"^Cap\w+:\t0*$", status, re.MULTILINE).__len__() == 5, status
            assert "NoNewPrivs:\t1\n" in status
            assert "Uid:\t10001\t" in status
            with pytest.raises(AssertionError, match="Read-only file system"):
                podman("exec", name, "touch", "/x")
    assert len(stack.names()) == 6
    assert all(stack.is_healthy(name) for name in stack.names())


def test_receivers_restart_in_turn_and_no_delivery_is_lost(stack: Stack) -> None:
    counter, over = itertools.count(), threading.Event()

    def deliver() -> Counter[int]:
        statuses: Counter[int] = Counter()
        with client() as http:
            while not over.is_set():
                statuses[stack.deliver(http, f"r{next(counter)}")] += 1
        return statuses

    with ThreadPoolExecutor(CLIENTS) as threads:
        running = [threads.submit(deliver) for _ in range(CLIENTS)]
        try:
            for name in stack.of("receiver") * 2:
                podman("restart", "--time", "60", name)
                stack.wait_for_health(name)
        finally:
            over.set()
    statuses = sum((each.result() for each in running), Counter())

    assert set(statuses) == {200}, statuses
    assert statuses[200] > CLIENTS


def test_the_console_asks_for_its_password_and_shows_what_was_committed(stack: Stack) -> None:
    password = (stack.deploy / "secrets" / "console" / "CONSOLE_PASSWORD").read_text()
    with httpx.Client(trust_env=False, timeout=60) as http:
        assert http.get(CONSOLE).status_code == 401
        answer = http.get(CONSOLE, params={"q": "between"}, auth=("admin", password))

    assert answer.status_code == 200
    (shown,) = answer.json()["batches"]
    assert (shown["batch"], shown["state"]) == ("between", "succeeded")


def test_a_killed_worker_is_replaced_and_buried(stack: Stack) -> None:
    (workers,) = stack.of("workers")
    assert int(podman("exec", workers, "python", "-c", KILL_WORKERS)) > 0

    stack.wait_for_health(workers)
    wait_until(
        lambda: "State:\tZ" not in podman("exec", workers, "sh", "-c", "cat /proc/[0-9]*/status"),
        seconds=60,
        what="no zombie",
    )


@pytest.mark.parametrize("command", ["serve", "work"])
def test_told_to_end_in_its_first_moments_a_container_is_not_killed(command: str) -> None:
    container = podman(
        "run", "--detach", "--pull=never", *CONFINED, "--network=none", f"--env=WEBHOOK_SIGNING_SECRET={SECRET}",
        "--env=GEMINI_API_KEY=test-key", "--env=STORAGE_URL=file:///tmp/bucket", "batch-receiver", command,
    ).strip()  # fmt: skip
    podman("stop", "--time", "30", container)

    # 143: by the signal itself, before Python took it into its hands.
    assert podman("inspect", "--format", "{{.State.ExitCode}}", container).strip() in {"0", "143"}
    podman("rm", container)


def test_whatever_user_a_platform_chooses_can_write_to_the_bucket(stack: Stack) -> None:
    stack.put_batch("anybody", result_line("a"))
    (workers,) = stack.of("workers")
    podman(
        "run", "--rm", "--pull=never", *CONFINED, "--user=1000660000:0", f"--network=container:{workers}",
        "--volume=batch-receiver_others:/bucket", "--env=STORAGE_URL=file:///bucket", "--env=GEMINI_API_KEY=test-key",
        f"--env=GOOGLE_GEMINI_BASE_URL={EMULATOR}", "batch-receiver", "process", "anybody",
    )  # fmt: skip
    podman("volume", "rm", "batch-receiver_others")


def test_all_of_it_ends_when_it_is_told_to(stack: Stack) -> None:
    names = stack.names()
    assert stack.stop(names) == dict.fromkeys(names, 0)
