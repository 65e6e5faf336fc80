"""A master, its replica, and the sentinel that makes the replica a master once the master is gone."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from emulator.demo.local_redis import find_redis_server, free_port, start_redis
from tests.support.waiting import wait_until

SERVICE = "jobs"
_DOWN_MS = 1000


class Pair:
    """`servers` by port; the first one began as the master. Each is a real process, to be hurt."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.ports = (free_port(), free_port())
        self.servers: dict[int, subprocess.Popen[bytes]] = {}
        first, second = self.ports
        self.start(first)
        self.start(second, "--replicaof", "127.0.0.1", str(first))
        wait_until(lambda: self._is_in_step(first), what="a replica in step")
        self.sentinel_port = free_port()
        self._sentinel = self._watch(first)
        wait_until(self._knows_the_replica, what="a sentinel that knows the replica")

    @property
    def url(self) -> str:
        """A sentinel that is none comes first, as one of three may be away."""
        return f"redis+sentinel://127.0.0.1:{free_port()},127.0.0.1:{self.sentinel_port}/{SERVICE}/0"

    @property
    def master(self) -> int:
        with redis.Redis(port=self.sentinel_port) as sentinel:
            return int(sentinel.sentinel_get_master_addr_by_name(SERVICE)[1])

    def start(self, port: int, *options: str) -> None:
        self.servers[port] = start_redis(self._folder / str(port), port, "--appendonly", "yes", *options)

    def kill(self, port: int) -> None:
        """SIGKILL."""
        self.servers[port].kill()
        self.servers[port].wait()

    def close(self) -> None:
        for process in (self._sentinel, *self.servers.values()):
            process.kill()
            process.wait()

    def _watch(self, master: int) -> subprocess.Popen[bytes]:
        rules = self._folder / "sentinel.conf"  # It writes into it.
        rules.write_text(
            f"bind 127.0.0.1\nport {self.sentinel_port}\ndir {self._folder}\n"
            f"sentinel monitor {SERVICE} 127.0.0.1 {master} 1\n"
            f"sentinel down-after-milliseconds {SERVICE} {_DOWN_MS}\n"
            f"sentinel failover-timeout {SERVICE} 10000\n"
        )
        with (self._folder / "sentinel.log").open("ab") as log:
            command = [find_redis_server(), str(rules), "--sentinel"]
            return subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def _knows_the_replica(self) -> bool:
        assert self._sentinel.poll() is None, (self._folder / "sentinel.log").read_text()
        try:
            with redis.Redis(port=self.sentinel_port) as sentinel:
                return bool(sentinel.sentinel_slaves(SERVICE))
        except redis.RedisError:
            return False

    @staticmethod
    def _is_in_step(master: int) -> bool:
        with redis.Redis(port=master) as client:
            about = client.info("replication")
            return bool(about["connected_slaves"]) and about["slave0"]["state"] == "online"


@contextmanager
def watched_pair(folder: Path) -> Iterator[Pair]:
    folder.mkdir()
    pair = Pair(folder)
    try:
        yield pair
    finally:
        pair.close()
