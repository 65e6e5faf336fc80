"""Who is connected when the listening socket is closed gets an answer, not a reset."""

import asyncio
import errno
import select
import socket
from contextlib import ExitStack
from pathlib import Path
from typing import cast

import pytest
import uvloop

from receiver.backlog import accept_the_last

CLIENTS = 20


def test_whoever_waits_is_accepted_before_the_socket_is_closed() -> None:
    accepted: list[asyncio.Transport] = []
    everybody = asyncio.Event()

    class Greeting(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            made = cast("asyncio.Transport", transport)  # uvloop's own is no subclass.
            made.write(b"x")
            made.close()
            accepted.append(made)
            if len(accepted) == CLIENTS:
                everybody.set()

    async def close_with_a_full_backlog(stack: ExitStack) -> list[socket.socket]:
        listener = socket.create_server(("127.0.0.1", 0), backlog=CLIENTS)
        server = await asyncio.get_running_loop().create_server(Greeting, sock=listener)
        # The kernel connects them while the loop does something else.
        clients = [
            stack.enter_context(socket.create_connection(listener.getsockname())) for _ in range(CLIENTS)
        ]
        assert not accepted
        await accept_the_last([listener])
        server.close()
        listener.close()
        await everybody.wait()
        return clients

    with ExitStack() as stack, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        clients = runner.run(asyncio.wait_for(close_with_a_full_backlog(stack), 10))
        assert [client.recv(1) for client in clients] == [b"x"] * CLIENTS


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_whoever_asks_while_the_socket_is_being_closed_is_refused_and_never_let_in(
    family: socket.AddressFamily,
) -> None:
    host = "::1" if family == socket.AF_INET6 else "127.0.0.1"
    with socket.create_server((host, 0), family=family) as listener:
        early, late = socket.socket(family), socket.socket(family)
        with early, late:
            early.connect(listener.getsockname())
            asyncio.run(accept_the_last([listener]))
            late.setblocking(False)
            assert late.connect_ex(listener.getsockname()) == errno.EINPROGRESS
            accepted, _ = listener.accept()
            accepted.close()
            assert select.select([], [late], [], 0.1)[1] == []
            listener.close()
            # It asks once more by itself.
            assert select.select([], [late], [], 30)[1] == [late]
            assert late.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNREFUSED


def test_a_socket_in_the_file_system_needs_no_more_than_to_be_emptied(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        asyncio.run(accept_the_last([listener]))
