"""systemd's side of a service: sockets that it hands over, and what it wants to be told. Elsewhere none of it happens.

sd_notify(3), sd_listen_fds(3) and sd_watchdog_enabled(3) describe the protocol.
"""

import asyncio
import os
import socket
from contextlib import suppress

from receiver.errors import SettingsError

READY = "READY=1"
STOPPING = "STOPPING=1"
_ALIVE = "WATCHDOG=1"

_FIRST_DESCRIPTOR = 3


def listeners() -> list[socket.socket]:
    """The listening sockets that were handed over, none where none were meant for this process.

    Raises:
        SettingsError: one of them is not listening.
    """
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    handed = []
    for number in range(int(os.environ.get("LISTEN_FDS", "0"))):
        try:
            listener = socket.socket(fileno=_FIRST_DESCRIPTOR + number)
            is_listening = listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        except OSError:
            is_listening = 0
        if not is_listening:
            raise SettingsError("LISTEN_FDS names what is no listening socket: the unit needs ListenStream=.")
        handed.append(listener)
    return handed


def notify(state: str) -> None:
    """Tell the service manager, if there is one that listens."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):  # Linux's abstract namespace.
        address = "\0" + address[1:]
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.sendto(state.encode(), address)


async def keep_watchdog_quiet() -> None:
    """Tell the manager twice in each of its intervals that this event loop lives. Returns if it does not ask."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return
    seconds = int(os.environ.get("WATCHDOG_USEC", "0")) / 1e6
    while seconds:
        notify(_ALIVE)
        await asyncio.sleep(seconds / 2)
