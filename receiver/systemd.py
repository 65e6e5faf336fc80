"""systemd's side of a service: sockets that it hands over, and what it wants to be told. Elsewhere none of it happens.

sd_notify(3), sd_listen_fds(3) and sd_watchdog_enabled(3) describe the protocol.
"""

import asyncio
import os
import socket

from receiver.errors import SettingsError
from workers.contract.environment import ALIVE, notify

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


async def keep_watchdog_quiet() -> None:
    """Tell the manager twice in each of its intervals that this event loop lives. Returns if it does not ask."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return
    seconds = int(os.environ.get("WATCHDOG_USEC", "0")) / 1e6
    while seconds:
        notify(ALIVE)
        await asyncio.sleep(seconds / 2)
