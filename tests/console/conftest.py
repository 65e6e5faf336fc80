"""A console as a process, and a client that is not followed anywhere."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from tests.console.seeding import Seeds
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


@pytest.fixture
def console(start_console: Callable[..., Console]) -> Console:
    return start_console()
