"""The last moment of a listening socket: who connected and was not accepted yet would be reset with it."""

import asyncio
import select
import socket
from collections.abc import Sequence

# Each look accepts all that waits. A flood must not keep us from ending.
_MOST_LOOKS = 100


async def accept_waiting(listeners: Sequence[socket.socket]) -> None:
    """Have the event loop accept whoever waits. Whoever closes the listeners does it at once after this."""
    poll = select.poll()
    for listener in listeners:
        poll.register(listener, select.POLLIN)
    for _ in range(_MOST_LOOKS):
        if not poll.poll(0):
            return
        await asyncio.sleep(0)
