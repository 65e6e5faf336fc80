"""A deployment in which nothing is wrong, for `doctor` to look at."""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import redis

from emulator.demo.local_redis import local_redis
from tests.support.gemini import Gemini
from tests.support.processes import ROOT, Process
from tests.support.redis_servers import find
from tests.support.waiting import wait_until

UNUSED_SECRET = "whsec_dW51c2VkdW51c2VkdW51c2VkdW51c2VkdW51c2U="


class Healthy:
    """`env` is what `doctor` is run with: that of `serve` and of `work` together. `webhook` is its webhook's id."""

    def __init__(self, stack: ExitStack, folder: Path, redis_url: str) -> None:
        self.folder = folder
        self.redis: Any = stack.enter_context(redis.Redis.from_url(redis_url))
        self.gemini = Gemini(folder / "gemini.log", "--seconds", "0.1")
        stack.callback(self.gemini.close)
        self.secret_file = folder / "signing-secret"
        self.secret_file.touch(mode=0o600)
        self.secret_file.write_text(UNUSED_SECRET + "\n")
        self._stack = stack
        commands = _commands(folder)
        self.env = {
            **self.gemini.env,
            "REDIS_URL": redis_url,
            "STORAGE_URL": (folder / "bucket").as_uri(),
            "WEBHOOK_SIGNING_SECRET_FILE": str(self.secret_file),
            "PATH": f"{commands}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
        }
        receiver = self.start("serve", "--port", "0")
        self.url = receiver.wait_for_output(r"listening on (http://\S+)")[1]
        self.register = ["register", "--url", self.url, "--secret-file", str(self.secret_file)]
        self.webhook = json.loads(self.run(*self.register, "--json").stdout)["webhook"]["id"]
        # So that the last run of reconcile is what a test says it is.
        self.start("work", "--workers", "1", RECONCILE_INTERVAL_SECONDS="0")
        self.reconciled()
        wait_until(lambda: self.bad(self.diagnose()) == {}, seconds=60, what="a deployment without a fault")

    def start(self, *args: str, **settings: str) -> Process:
        log = self.folder / f"{args[0]}.log"
        process = Process([*args], {**self.env, **settings}, log)
        self._stack.callback(process.kill)
        return process

    def run(self, *args: str, **settings: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "receiver.cli", *args]
        env = {**self.env, **settings}
        return subprocess.run(
            command, env=env, cwd=self.folder, capture_output=True, text=True, timeout=100, check=False
        )

    def diagnose(self, *options: str, **settings: str) -> dict[str, dict[str, Any]]:
        """The checks by name. What is set to nothing is not set."""
        ended = self.run("doctor", "--json", *options, **settings)
        document = json.loads(ended.stdout)
        checks = {check["name"]: check for check in document["checks"]}
        failed = any(check["status"] == "failed" for check in checks.values())
        assert (document["ok"], ended.returncode) == (not failed, int(failed)), ended.stderr
        return checks

    @staticmethod
    def bad(checks: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
        """Name and sentence of what failed or is warned of."""
        return {
            name: each["message"] for name, each in checks.items() if each["status"] in {"failed", "warning"}
        }

    def change_webhook(self, **fields: Any) -> None:
        params = {"update_mask": ",".join(fields)}
        answer = self.gemini.http.patch(f"/v1beta/webhooks/{self.webhook}", params=params, json=fields)
        answer.raise_for_status()

    def reconciled(self, ago: float = 0.0) -> None:
        seconds, _ = self.redis.time()
        self.redis.hset("batch-receiver:metrics", "reconcile_last_success_timestamp_seconds", seconds - ago)

    def restore(self) -> None:
        """As it was before a test broke it."""
        for name, value in (("appendonly", "yes"), ("maxmemory-policy", "noeviction"), ("maxmemory", "0")):
            self.redis.config_set(name, value)
        self.reconciled()
        for webhook in self.gemini.http.get("/v1beta/webhooks").json()["webhooks"]:
            if webhook["id"] == self.webhook:
                self.change_webhook(uri=self.url)
            else:
                self.gemini.http.delete(f"/v1beta/webhooks/{webhook['id']}").raise_for_status()
        ended = self.run(*self.register, "--json")
        if ended.returncode:
            ended = self.run(*self.register, "--json", "--rotate")
        self.webhook = json.loads(ended.stdout)["webhook"]["id"]


def _commands(folder: Path) -> Path:
    """A folder with the commands that `doctor` names, as they are on the PATH of whoever installed them."""
    commands = folder / "bin"
    commands.mkdir()
    ours = commands / "batch-receiver"
    ours.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m receiver.cli "$@"\n')
    ours.chmod(0o755)
    cli = Path(find("bundled")).with_name("redis-cli")
    (commands / "redis-cli").symlink_to(cli)
    return commands


@pytest.fixture(scope="session")
def healthy_deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Healthy]:
    folder = tmp_path_factory.mktemp("healthy")
    with ExitStack() as stack:
        url = stack.enter_context(local_redis(folder / "redis", "--appendonly", "yes"))
        yield Healthy(stack, folder, url)


@pytest.fixture
def healthy(healthy_deployment: Healthy) -> Iterator[Healthy]:
    """A deployment without a fault; whatever the test does to it is undone."""
    yield healthy_deployment
    healthy_deployment.restore()
