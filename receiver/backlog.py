"""The last moment of a listening socket: who connected and was not accepted yet would be reset with it."""

import asyncio
import select
import socket
import struct
from array import array
from collections.abc import Sequence
from contextlib import suppress

HANDSHAKE_SECONDS = 0.05
"""Between the kernel's answer to who connects and the end of their handshake, at most: a proxy stands near."""

# Each look accepts all that waits. A flood must not keep us from ending.
_MOST_LOOKS = 100

_SO_ATTACH_FILTER = 26  # asm-generic/socket.h; Python has no name for it.
# A classic BPF program (linux/filter.h: code, jump if true, jump if false, operand) over a packet from its TCP header
# on, whose 14th byte has the flags (RFC 9293, section 3.1). What only asks for a connection is dropped.
_NO_SYN = (
    (0x30, 0, 0, 13),  # load that byte
    (0x54, 0, 0, 0x12),  # keep ACK and SYN of it
    (0x15, 0, 1, 0x02),  # is it SYN alone?
    (0x06, 0, 0, 0),  # yes: nothing of the packet passes
    (0x06, 0, 0, 0xFFFF_FFFF),  # no: all of it
)


async def accept_the_last(listeners: Sequence[socket.socket]) -> None:
    """Have the event loop accept whoever is connected, and the kernel answer nobody else.

    Who asks now asks again in a second (RFC 6298, section 2), by which the socket is closed: a refusal, with which they
    go elsewhere at once. Whoever closes the listeners does it right after this.
    """
    if not listeners:
        return
    poll = select.poll()
    for listener in listeners:
        _turn_away(listener)
        poll.register(listener, select.POLLIN)
    await asyncio.sleep(HANDSHAKE_SECONDS)
    for _ in range(_MOST_LOOKS):
        if not poll.poll(0):
            return
        await asyncio.sleep(0)


def _turn_away(listener: socket.socket) -> None:
    """Where the kernel has no such filter, who asks in the last microseconds is let in and then reset."""
    if listener.family == socket.AF_UNIX:
        return
    program = array("B", b"".join(struct.pack("HBBI", *each) for each in _NO_SYN))
    address, _ = program.buffer_info()
    with suppress(OSError):
        listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", len(_NO_SYN), address))
