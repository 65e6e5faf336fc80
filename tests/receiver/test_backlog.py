"""Who is connected when the listening socket is closed gets an answer, not a reset."""

import asyncio
import socket
from contextlib import ExitStack
from typing import cast

import uvloop

from receiver.backlog import accept_waiting

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
        await accept_waiting([listener])
        server.close()
        listener.close()
        await everybody.wait()
        return clients

    with ExitStack() as stack, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        clients = runner.run(asyncio.wait_for(close_with_a_full_backlog(stack), 10))
        assert [client.recv(1) for client in clients] == [b"x"] * CLIENTS


def test_nobody_waiting_takes_no_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        asyncio.run(accept_waiting([listener]))
