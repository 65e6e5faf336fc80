"""The manners of a service: a socket that outlives it, and what it tells its manager."""

import asyncio
import re
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from receiver import systemd
from tests.conftest import StartProcess
from tests.receiver.conftest import PATH, Receiver, StartReceiver, read_answer
from tests.receiver.signing import SECRET, event, signed
from tests.support.processes import Process
from tests.support.waiting import wait_until
from workers.contract.environment import READY, notify


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """What systemd holds for a service across its restarts."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        yield listener


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """Where a service's notifications arrive."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(20)
        yield manager


@pytest.fixture
def start_activated(start_process: StartProcess, redis_url: str) -> Callable[[socket.socket], Process]:
    def start(listener: socket.socket) -> Process:
        return start_process(
            "serve",
            env={"REDIS_URL": redis_url, "WEBHOOK_SIGNING_SECRET": SECRET},
            before="export LISTEN_PID=$$ LISTEN_FDS=1; exec 3<&0",
            stdin=listener.fileno(),
        )

    return start


def test_a_socket_that_is_handed_over_is_served(
    start_activated: Callable[[socket.socket], Process], listener: socket.socket
) -> None:
    port = listener.getsockname()[1]
    process = start_activated(listener)
    process.wait_for_output(f"listening on http://127.0.0.1:{port}{PATH}")
    assert Receiver(process, port).deliver().word == "accepted"


def test_a_restart_refuses_no_connection_and_loses_no_delivery(
    start_activated: Callable[[socket.socket], Process], listener: socket.socket
) -> None:
    port = listener.getsockname()[1]
    process = start_activated(listener)
    process.wait_for_output("listening on")
    receiver = Receiver(process, port)
    statuses: list[int] = []
    is_over = threading.Event()

    def deliver(number: int) -> None:
        while not is_over.is_set():
            statuses.append(receiver.deliver(f"b{number}-{len(statuses)}").status)

    threads = [threading.Thread(target=deliver, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(3):
            assert process.stop() == 0
            before = len(statuses)
            process = start_activated(listener)
            process.wait_for_output("listening on")
            while len(statuses) < before + 20:
                assert all(thread.is_alive() for thread in threads)
    finally:
        is_over.set()
        for thread in threads:
            thread.join()
    assert set(statuses) == {200}


def test_sockets_for_another_process_are_left_alone(start_receiver: StartReceiver, redis_url: str) -> None:
    # A child of the service inherits the variables, not the meaning.
    assert start_receiver(redis_url, LISTEN_PID="1", LISTEN_FDS="1").deliver().status == 200


def test_what_is_handed_over_and_does_not_listen_is_said_in_one_sentence(start_process: StartProcess) -> None:
    process = start_process(
        "serve",
        env={"REDIS_URL": "redis://127.0.0.1:1/0", "WEBHOOK_SIGNING_SECRET": SECRET},
        before="export LISTEN_PID=$$ LISTEN_FDS=1; exec 3</dev/null",
    )
    assert process.wait() == 2
    assert process.output.endswith(
        "Error: LISTEN_FDS names what is no listening socket: the unit needs ListenStream=.\n"
    )


def refuses(receiver: Receiver) -> bool:
    try:
        receiver.send("GET", "/healthz")
    except ConnectionError:
        return True
    return False


def test_a_request_on_an_idle_connection_at_sigterm_is_answered_as_the_last_one(receiver: Receiver) -> None:
    body = event()
    head = [f"POST {PATH} HTTP/1.1", "host: x", f"content-length: {len(body)}"]
    head += [f"{name}: {value}" for name, value in signed(body).items()]
    request = "\r\n".join([*head, "", ""]).encode() + body
    with receiver.connection() as idle, receiver.connection() as stalled:
        idle.sendall(request)
        assert "connection" not in read_answer(idle).headers
        # It keeps the process up, and shows when that has begun to end: nobody new gets in.
        stalled.sendall(request[:-1])
        assert receiver.send("GET", "/healthz").status == 200
        receiver.process.signal(signal.SIGTERM)
        wait_until(lambda: refuses(receiver), what="nobody new let in")
        idle.sendall(request)
        answer = read_answer(idle)
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        stalled.sendall(request[-1:])
        assert read_answer(stalled).headers["connection"] == "close"
    assert receiver.process.wait() == 0


def test_it_says_when_it_is_ready_alive_and_stopping(
    start_receiver: StartReceiver, redis_url: str, manager: socket.socket
) -> None:
    receiver = start_receiver(redis_url, NOTIFY_SOCKET=manager.getsockname(), WATCHDOG_USEC="200000")
    assert {manager.recv(100) for _ in range(4)} == {b"READY=1", b"WATCHDOG=1"}
    assert receiver.deliver().status == 200
    assert receiver.process.stop() == 0
    while manager.recv(100) != b"STOPPING=1":
        pass


def is_silent(manager: socket.socket) -> bool:
    try:
        manager.recv(100)
    except TimeoutError:
        return True
    return False


def test_a_loop_that_hangs_says_nothing(manager: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", manager.getsockname())
    monkeypatch.setenv("WATCHDOG_USEC", "20000")

    async def live_then_hang() -> None:
        alive = asyncio.create_task(systemd.keep_watchdog_quiet())
        await asyncio.to_thread(manager.recv, 100)
        # From here on in the loop's own thread, which therefore hangs: what was sent before, and then nothing.
        manager.settimeout(0.2)
        wait_until(lambda: is_silent(manager), what="silence")
        alive.cancel()

    asyncio.run(live_then_hang())


@pytest.mark.parametrize(("name", "value"), [("WATCHDOG_USEC", "0"), ("WATCHDOG_PID", "1")])
def test_a_watchdog_that_is_not_ours_is_not_fed(
    monkeypatch: pytest.MonkeyPatch, manager: socket.socket, name: str, value: str
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", manager.getsockname())
    monkeypatch.setenv("WATCHDOG_USEC", "20000")
    monkeypatch.setenv(name, value)
    asyncio.run(asyncio.wait_for(systemd.keep_watchdog_quiet(), 5))
    manager.setblocking(False)
    with pytest.raises(BlockingIOError):
        manager.recv(100)


def test_a_manager_in_the_abstract_namespace_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("")  # The kernel chooses an abstract name.
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + manager.getsockname()[1:].decode())
        notify(READY)
        assert manager.recv(100) == b"READY=1"


def test_a_manager_that_is_gone_is_nobodys_trouble(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "none"))
    notify(READY)


def test_one_line_says_what_was_started_and_no_secret(start_receiver: StartReceiver, redis_url: str) -> None:
    with_password = redis_url.replace("redis://", "redis://default:hunter2@") + "?health_check_interval=7"
    receiver = start_receiver(with_password, WEBHOOK_TOLERANCE_SECONDS="120")
    line = re.findall(r"event=started .*", receiver.process.output)[0]
    for field in (f"redis={redis_url} ", f"path={PATH} ", "secrets=1 ", "tolerance_seconds=120 ", "version="):
        assert field in line
    assert "hunter2" not in receiver.process.output
    assert SECRET not in receiver.process.output


def test_the_port_of_the_environment_counts_where_no_option_is_given(
    start_process: StartProcess, redis_url: str
) -> None:
    env = {"REDIS_URL": redis_url, "WEBHOOK_SIGNING_SECRET": SECRET, "PORT": "0"}
    process = start_process("serve", env=env)
    found = process.wait_for_output(r"listening on http://127\.0\.0\.1:(\d+)")
    assert found[1] != "8080"


def test_a_sigterm_between_the_start_and_the_first_request_is_not_lost(
    start_process: StartProcess, redis_url: str
) -> None:
    env = {"REDIS_URL": redis_url, "WEBHOOK_SIGNING_SECRET": SECRET, "PORT": "0"}
    process = start_process("serve", env=env)
    process.wait_for_output("event=started")
    assert process.stop() == 0


def test_connections_that_nobody_has_accepted_yet_at_sigterm_are_answered(receiver: Receiver) -> None:
    body = event()
    head = [f"POST {PATH} HTTP/1.1", "host: x", f"content-length: {len(body)}"]
    head += [f"{name}: {value}" for name, value in signed(body).items()]
    request = "\r\n".join([*head, "", ""]).encode() + body
    receiver.process.signal(signal.SIGSTOP)  # As a machine that is busy with others.
    with ExitStack() as stack:
        waiting = [stack.enter_context(receiver.connection()) for _ in range(20)]
        for connection in waiting:
            connection.sendall(request)
        receiver.process.signal(signal.SIGTERM)
        receiver.process.signal(signal.SIGCONT)
        assert [read_answer(connection).status for connection in waiting] == [200] * 20
    assert receiver.process.wait() == 0
