"""Machines of their own for processes: a network namespace each, all on one bridge, cut off from services at will.

Whoever runs this has to be root, with `ip` and `iptables`. The tests themselves are at `Network.host`. What others
offer is brought to a machine's own 127.0.0.1, since Gemini, and what it tells, is plain http there alone.
"""

import os
import shutil
import subprocess
from contextlib import ExitStack
from itertools import count
from typing import Self

PROGRAMS = ("ip", "iptables", "sysctl")


def can_have_machines() -> bool:
    return os.geteuid() == 0 and all(map(shutil.which, PROGRAMS))


def _run(*command: object) -> None:
    subprocess.run([*map(str, command)], check=True, capture_output=True)


class Machine:
    """`before` makes a `Process` one of this machine's; `host` is where others reach it."""

    def __init__(self, network: "Network", name: str, number: int) -> None:
        self.host = network.at(10 + number)
        self._name = name
        self.before = f'exec ip netns exec {name} "$@"'
        outside = f"{name}-o"
        _run("ip", "netns", "add", name)
        _run("ip", "link", "add", outside, "type", "veth", "peer", "name", "eth0", "netns", name)
        _run("ip", "link", "set", outside, "master", network.bridge, "up")
        _run("ip", "-n", name, "address", "add", f"{self.host}/24", "dev", "eth0")
        for each in ("eth0", "lo"):
            _run("ip", "-n", name, "link", "set", each, "up")
        self._within("sysctl", "-w", "net.ipv4.conf.all.route_localnet=1")
        self._within("iptables", "-t", "nat", "-A", "POSTROUTING", "-o", "eth0", "-j", "MASQUERADE")

    def bring(self, port: int, host: str, there: int) -> None:
        """From now on 127.0.0.1 has, at this port, what `host` has at `there`."""
        what = ("-p", "tcp", "-d", "127.0.0.1", "--dport", port)
        to = ("-j", "DNAT", "--to-destination", f"{host}:{there}")
        self._within("iptables", "-t", "nat", "-A", "OUTPUT", *what, *to)

    def cut(self, *ports: int) -> None:
        """Nothing comes or goes any more, and nobody is told: as when a cable is pulled."""
        for port in ports:
            self._within("iptables", "-A", "OUTPUT", "-p", "tcp", "--dport", port, "-j", "DROP")
            self._within("iptables", "-A", "INPUT", "-p", "tcp", "--sport", port, "-j", "DROP")

    def heal(self) -> None:
        for chain in ("OUTPUT", "INPUT"):
            self._within("iptables", "-F", chain)

    def _within(self, *command: object) -> None:
        _run("ip", "netns", "exec", self._name, *command)


class Network:
    """One bridge, in a block of addresses that is kept for trials of networks (RFC 2544)."""

    def __init__(self) -> None:
        self._block = f"198.18.{os.getpid() % 250}"
        self._numbers = count(1)
        self._opened = ExitStack()
        self.bridge = f"br{os.getpid()}"
        self.host = self.at(1)

    def at(self, number: int) -> str:
        return f"{self._block}.{number}"

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            _run("ip", "link", "add", self.bridge, "type", "bridge")
            stack.callback(_run, "ip", "link", "delete", self.bridge)
            _run("ip", "address", "add", f"{self.host}/24", "dev", self.bridge)
            _run("ip", "link", "set", self.bridge, "up")
            self._opened = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._opened.close()

    def machine(self) -> Machine:
        number = next(self._numbers)
        name = f"m{os.getpid()}-{number}"
        self._opened.callback(_run, "ip", "netns", "delete", name)
        return Machine(self, name, number)
