"""A console as a process, and a client that is not followed anywhere."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from tests.console.seeding import Seeds
from tests.support.deployment import Deployment
from tests.support.gemini import Gemini
from tests.support.processes import Process

Start = Callable[..., Process]


class Console:
    """`batch-receiver console` at `url`; `folder` is its bucket."""

    def __init__(self, start: Start, redis_url: str, folder: Path, *options: str, **settings: str) -> None:
        env = {"REDIS_URL": redis_url, "STORAGE_URL": folder.as_uri(), **settings}
        self.folder = folder
        self.process = start("console", "--port", "0", *options, env=env)
        self.url = self.process.wait_for_output(r"listening on (http://\S+)")[1]
        self.http = httpx.Client(base_url=self.url, timeout=30, trust_env=False)

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.http.get(path, **options)

    def json(self, path: str) -> Any:
        answer = self.http.get(path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, path: str, data: dict[str, str] | None = None, **headers: str) -> httpx.Response:
        """As a form of our own pages sends it."""
        return self.http.post(path, data=data or {}, headers={"sec-fetch-site": "same-origin", **headers})


@pytest.fixture(scope="session")
def shared_console(
    shared_redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[], Console]]:
    """One console for all tests that need nothing special of it; it is started when the first one asks."""
    folder = tmp_path_factory.mktemp("console")
    started: list[Console] = []

    def start(*args: str, env: dict[str, str]) -> Process:
        return Process([*args], env, folder / "console.log")

    def get() -> Console:
        if not started:
            started.append(Console(start, shared_redis_url, folder / "bucket"))
        return started[0]

    yield get
    for console in started:
        console.http.close()
        console.process.stop()


@pytest.fixture
def console(shared_console: Callable[[], Console], redis_url: str) -> Console:
    """A console of an empty deployment."""
    del redis_url  # It is empty.
    console = shared_console()
    for path in console.folder.iterdir() if console.folder.exists() else ():
        shutil.rmtree(path)
    return console


@pytest.fixture
def deployment(start_process: Start, gemini: Gemini, redis_url: str, console: Console) -> Deployment:
    """The deployment that `console` shows."""
    return Deployment(start_process, gemini, redis_url, console.folder)


@pytest.fixture
def seeds(redis_client: "redis.Redis") -> Seeds:
    return Seeds(redis_client)


@pytest.fixture
def start_console(start_process: Start, redis_url: str, tmp_path: Path) -> Iterator[Callable[..., Console]]:
    """`start_console("--host", …, CONSOLE_PASSWORD=…)`."""
    started: list[Console] = []

    def start(*options: str, **settings: str) -> Console:
        console = Console(start_process, redis_url, tmp_path / "bucket", *options, **settings)
        started.append(console)
        return console

    yield start
    for console in started:
        console.http.close()
