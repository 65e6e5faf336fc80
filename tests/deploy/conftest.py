"""A Redis with the ACL of `deploy/`, started as compose does, of every kind that this machine has."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis

from emulator.demo.local_redis import free_port
from receiver.intake import connect
from tests.support import redis_servers
from tests.support.compose import read_yaml
from tests.support.processes import ROOT

DEPLOY = ROOT / "deploy"


@dataclass(frozen=True)
class Guarded:
    """`folder` is what secrets.sh made."""

    port: int
    folder: Path

    def url(self, user: str) -> str:
        made = (self.folder / user / "REDIS_URL").read_text().strip()
        return made.replace("@redis:6379", f"@127.0.0.1:{self.port}")

    @property
    def admin_url(self) -> str:
        password = (self.folder / "redis-admin-password").read_text().strip()
        return f"redis://admin:{password}@127.0.0.1:{self.port}/0"


@contextmanager
def started(server: str, folder: Path, port: int) -> Iterator[Guarded]:
    """A Redis with what `folder` keeps: started again, it has its secrets and its data from before."""
    subprocess.run([DEPLOY / "secrets.sh", folder / "secrets"], check=True, capture_output=True, timeout=30)
    compose = read_yaml((DEPLOY / "compose.yaml").read_text())
    program, *options = compose["services"]["redis"]["command"]
    assert program == "redis-server"
    options[options.index("/run/redis/users.acl")] = str(folder / "secrets" / "users.acl")
    # As the health check does it.
    url = f"redis://health:none@127.0.0.1:{port}/0"
    with redis_servers.running(server, folder, url, "--bind", "127.0.0.1", "--port", str(port), *options):
        yield Guarded(port, folder / "secrets")


@pytest.fixture(scope="module", params=redis_servers.KINDS)
def redis_server(request: pytest.FixtureRequest) -> str:
    return redis_servers.find(request.param)


@pytest.fixture(scope="module")
def guarded(redis_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    with started(redis_server, tmp_path_factory.mktemp("deploy"), free_port()) as made:
        yield made


@pytest.fixture
def admin(guarded: Guarded) -> Iterator["redis.Redis"]:
    with redis.Redis.from_url(guarded.admin_url) as client:
        client.flushall()
        client.acl_log_reset()
        yield client


@pytest.fixture
def receiver(guarded: Guarded) -> Iterator["redis.Redis"]:
    with connect(guarded.url("receiver")) as client:
        yield client
