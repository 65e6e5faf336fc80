"""What stands in `deploy/`: it names only what exists, opens only what it must, and Redis holds each user to it."""

import json
import os
import re
import shutil
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest
import redis
from redis.backoff import NoBackoff
from redis.exceptions import NoPermissionError, RedisError
from redis.retry import Retry

from emulator.demo.local_redis import find_redis_server, free_port
from receiver import settings as receiver_settings
from receiver.cli import main
from receiver.intake import connect
from tests.support.gemini import Gemini
from tests.support.processes import ROOT, Process
from tests.support.waiting import wait_until
from workers.contract import Announcement, Outcome, Queues, Trigger
from workers.contract.settings import SETTINGS
from workers.settings import Settings as WorkerSettings

DEPLOY = ROOT / "deploy"

COMPOSE_OWN = frozenset({"DOMAIN", "WORKERS"})
LONG_RUNNING = ("caddy", "receiver", "workers", "redis")


def read_yaml(text: str) -> Any:
    """The part of YAML that compose.yaml keeps to: nested mappings, lists of scalars, lists in brackets."""
    rows = (row for row in text.splitlines() if row.strip() and not row.lstrip().startswith("#"))
    return _block(deque((len(row) - len(row.lstrip()), row.strip()) for row in rows), 0)


def _block(rows: deque[tuple[int, str]], indent: int) -> Any:
    if rows[0][1].startswith("- "):
        items = []
        while rows and rows[0][0] == indent and rows[0][1].startswith("- "):
            items.append(_scalar(rows.popleft()[1][2:]))
        return items
    mapping: dict[str, Any] = {}
    while rows and rows[0][0] == indent:
        key, colon, value = rows.popleft()[1].partition(":")
        assert colon, f"{key!r} is no line of a mapping"
        assert key not in mapping, f"{key!r} stands twice"
        mapping[key] = _scalar(value.strip()) if value.strip() else _block(rows, rows[0][0])
    return mapping


def _scalar(text: str) -> Any:
    assert " #" not in text, text
    assert text[:1] not in {"&", "*", "|", ">", "'"}, text
    if text.startswith("[") and '"' not in text:
        return text.strip("[]").split(", ")
    if text[:1] in {"[", "{", '"'} or text in {"true", "false"}:
        return json.loads(text)
    return text


def substituted(text: str) -> str:
    """With compose's `${NAME:-default}` filled in, and names without a default by a likely value."""
    with_defaults = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)
    return re.sub(r"\$\{\w+[^}]*\}", "example.com", with_defaults)


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    document: dict[str, Any] = read_yaml((DEPLOY / "compose.yaml").read_text())
    return document


@pytest.fixture(scope="module")
def services(compose: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = compose["services"]
    return found


def assert_command_exists(arguments: list[str]) -> None:
    """Click parses the line as it stands; nothing is run."""
    name, *rest = arguments
    command = main.get_command(click.Context(main), name)
    assert command, f"no command {name}"
    command.make_context(name, rest)


def test_every_command_line_of_compose_is_one_that_exists(services: dict[str, Any]) -> None:
    ours = {name: each for name, each in services.items() if each["image"] == "batch-receiver"}
    assert set(ours) == {"receiver", "workers", "register"}
    for service in ours.values():
        assert_command_exists([substituted(argument) for argument in service["command"]])
        check = service.get("healthcheck", {"test": []})["test"]
        if check[1:2] == ["entrypoint"]:
            assert_command_exists(check[2:])


def test_the_image_runs_the_receiver_unless_told_otherwise(services: dict[str, Any]) -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    (command,) = re.findall(r"^CMD (\[.*\])$", text, re.MULTILINE)
    assert_command_exists(json.loads(command))
    assert json.loads(command) == services["receiver"]["command"]


def test_the_image_is_slim_built_in_two_stages_and_runs_without_root() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    assert len(re.findall(r"^FROM python:3\.12-slim", text, re.MULTILINE)) == 2
    assert re.findall(r"^USER (.*)$", text, re.MULTILINE) == ["10001:10001"]
    assert "--constraint constraints.txt" in text


def test_what_the_image_is_made_of_exists_and_reaches_the_builder() -> None:
    copied = re.findall(
        r"^COPY (?!--from)(?:--\S+ )?(.*) \S+$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE
    )
    sources = {source for line in copied for source in line.split()}
    allowed = re.findall(r"^!(.*)$", (DEPLOY / "Dockerfile.dockerignore").read_text(), re.MULTILINE)
    assert sources == set(allowed)
    assert all((ROOT / source).exists() for source in sources)


def test_only_caddy_is_reachable_from_outside(services: dict[str, Any]) -> None:
    assert [name for name, service in services.items() if "ports" in service] == ["caddy"]


def test_networks_lead_only_where_a_service_has_to_go(
    compose: dict[str, Any], services: dict[str, Any]
) -> None:
    internal = {name for name, network in compose["networks"].items() if network.get("internal")}
    joined = {name: set(service["networks"]) for name, service in services.items()}

    assert joined["receiver"] <= internal
    assert joined["redis"] <= internal
    assert not joined["receiver"] & joined["workers"]
    assert not joined["caddy"] & (joined["redis"] | joined["workers"])
    assert set().union(*joined.values()) == set(compose["networks"])


def test_each_service_is_given_its_own_secrets_only(services: dict[str, Any]) -> None:
    mounts = {
        name: {volume.rpartition("secrets/")[2] for volume in service["volumes"] if "./secrets/" in volume}
        for name, service in services.items()
    }
    assert mounts == {
        "caddy": set(),
        "receiver": {"receiver:/run/secrets:ro", "webhook:/run/webhook:ro"},
        "workers": {"workers:/run/secrets:ro"},
        "redis": {"users.acl:/run/redis/users.acl:ro"},
        "register": {"registration:/run/secrets:ro", "webhook:/run/webhook"},
    }


@pytest.mark.parametrize("name", LONG_RUNNING)
def test_a_service_is_watched_restarted_and_confined(name: str, services: dict[str, Any]) -> None:
    service = services[name]
    assert service["restart"] == "unless-stopped"
    assert service["healthcheck"]["test"]
    assert service["stop_grace_period"]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


def test_every_setting_is_explained_once_in_the_example() -> None:
    names = re.findall(r"^#?([A-Z][A-Z0-9_]*)=", (DEPLOY / ".env.example").read_text(), re.MULTILINE)
    assert len(names) == len(set(names))
    assert set(names) == {setting.name for setting in SETTINGS} | COMPOSE_OWN


def test_compose_passes_on_every_setting_that_is_no_secret(services: dict[str, Any]) -> None:
    passed = {name for service in services.values() for name in service.get("environment", {})}
    # The port inside a container is compose's own business.
    assert passed == {each.name for each in SETTINGS if not each.is_secret} - {"PORT"} | {"DOMAIN"}


def test_the_settings_that_compose_gives_are_accepted(services: dict[str, Any]) -> None:
    def given(service: str) -> dict[str, str]:
        return {name: substituted(text) for name, text in services[service]["environment"].items()}

    served = receiver_settings.load(given("receiver"))
    worked = WorkerSettings.load({**given("workers"), "GEMINI_API_KEY": "key"})

    assert served == receiver_settings.load({"WEBHOOK_SIGNING_SECRET_FILE": "/run/webhook/whsec"})
    usual = WorkerSettings.load({"STORAGE_URL": "file:///bucket", "GEMINI_API_KEY": "key"})
    assert repr(worked) == repr(usual)


def test_caddy_lets_the_webhook_and_the_health_paths_through_and_nothing_else() -> None:
    text = (DEPLOY / "Caddyfile").read_text()
    assert "@open path {$WEBHOOK_PATH:/webhooks/gemini} /healthz /readyz\n" in text
    assert text.count("reverse_proxy") == 1
    assert "max_size {$WEBHOOK_MAX_BODY_BYTES:262144}" in text
    assert "respond 404" in text


def test_no_secret_stands_in_the_folder() -> None:
    for path in DEPLOY.iterdir():
        if path.is_file():
            assert not re.search(r"whsec_\w|AIza\w|[0-9a-f]{32}", path.read_text()), path


@dataclass(frozen=True)
class Guarded:
    """A Redis with the ACL of `deploy/`, started as compose does; `folder` is what secrets.sh made."""

    port: int
    folder: Path

    def url(self, user: str) -> str:
        made = (self.folder / user / "REDIS_URL").read_text().strip()
        return made.replace("@redis:6379", f"@127.0.0.1:{self.port}")

    @property
    def admin_url(self) -> str:
        password = (self.folder / "redis-admin-password").read_text().strip()
        return f"redis://admin:{password}@127.0.0.1:{self.port}/0"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, services: dict[str, Any]) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("deploy")
    subprocess.run([DEPLOY / "secrets.sh", folder / "secrets"], check=True, capture_output=True, timeout=30)
    program, *options = services["redis"]["command"]
    assert program == "redis-server"
    options[options.index("/run/redis/users.acl")] = str(folder / "secrets" / "users.acl")
    port = free_port()
    command = [
        find_redis_server(),
        "--bind",
        "127.0.0.1",
        "--port",
        str(port),
        "--dir",
        str(folder),
        *options,
    ]
    with (folder / "redis.log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)

    def is_up() -> bool:
        assert server.poll() is None, (folder / "redis.log").read_text()
        try:
            # As the health check does it.
            with redis.Redis(port=port, username="health", password="none") as client:
                return bool(client.ping())
        except redis.ConnectionError:
            return False

    try:
        wait_until(is_up, what="redis-server with the ACL")
        yield Guarded(port, folder / "secrets")
    finally:
        server.terminate()
        server.wait()


@pytest.fixture
def admin(guarded: Guarded) -> Iterator["redis.Redis"]:
    with redis.Redis.from_url(guarded.admin_url) as client:
        client.flushall()
        yield client


@pytest.fixture
def receiver(guarded: Guarded) -> Iterator["redis.Redis"]:
    with connect(guarded.url("receiver")) as client:
        yield client


def test_the_receiver_announces_new_waiting_and_failed_batches(
    receiver: "redis.Redis", admin: "redis.Redis"
) -> None:
    announcements = [Announcement("abc", Trigger.WEBHOOK, '{"a": 1}'), Announcement("xyz", Trigger.DYNAMIC)]

    assert receiver.ping()
    assert Queues(receiver).announce(announcements) == [Outcome.ACCEPTED, Outcome.ACCEPTED]
    assert Queues(receiver).announce(announcements) == [Outcome.DUPLICATE, Outcome.DUPLICATE]
    for status in ("failed", "stopped", "finished", "canceled"):
        admin.hset("rq:job:batch-receiver-batch-abc", "status", status)
        admin.zadd("rq:failed:batches", {"batch-receiver-batch-abc": time.time() + 60})
        assert Queues(receiver).announce(announcements) == [Outcome.ACCEPTED, Outcome.DUPLICATE], status
    assert Queues(receiver).announced("abc").count == 6


@pytest.mark.parametrize(
    "command",
    [
        "FLUSHALL",
        "FLUSHDB",
        "KEYS *",
        "SCAN 0",
        "CONFIG GET *",
        "ACL LIST",
        "SHUTDOWN",
        "DEBUG SLEEP 0",
        "MONITOR",
        "CLIENT LIST",
        "EVAL return{} 0",
        "SCRIPT FLUSH",
        "SELECT 1",
        "SUBSCRIBE rq:pubsub",
        "PUBLISH rq:pubsub x",
        "GET secret",
        "HGETALL rq:worker:one",
        "HGETALL rq:job:batch-receiver-part-abc-00000",
        "RPUSH rq:queue:parts batch-abc",
        "DEL rq:workers",
        "LRANGE rq:queue:batches 0 -1",
        "HGETALL batch-receiver:orphans",
    ],
)
def test_the_receiver_can_do_nothing_else(
    command: str, receiver: "redis.Redis", admin: "redis.Redis"
) -> None:
    admin.set("secret", "1")
    with pytest.raises(NoPermissionError):
        receiver.execute_command(*command.split())  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(
    "command",
    ["FLUSHALL", "KEYS *", "CONFIG GET *", "ACL LIST", "SHUTDOWN", "DEBUG SLEEP 0", "GET secret", "MONITOR"],
)
def test_the_workers_own_the_queue_but_not_the_server(
    command: str, guarded: Guarded, admin: "redis.Redis"
) -> None:
    admin.set("secret", "1")
    with redis.Redis.from_url(guarded.url("workers")) as workers, pytest.raises(NoPermissionError):
        workers.execute_command(*command.split())


@pytest.mark.parametrize("command", ["GET x", "INFO", "FLUSHALL", "CLIENT LIST"])
def test_the_health_check_learns_nothing(command: str, guarded: Guarded) -> None:
    client = redis.Redis(port=guarded.port, username="health", password="none")
    with client, pytest.raises(NoPermissionError):
        client.execute_command(*command.split())  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(("user", "password"), [(None, None), ("receiver", "wrong"), ("workers", "")])
def test_nobody_gets_in_without_a_password(user: str | None, password: str | None, guarded: Guarded) -> None:
    no_retry = Retry(NoBackoff(), 0)
    client = redis.Redis(port=guarded.port, username=user, password=password, retry=no_retry)
    with client, pytest.raises(RedisError, match=r"(?i)auth|pass"):
        client.ping()


def test_a_batch_goes_from_the_receivers_user_to_the_bucket_by_the_workers(
    guarded: Guarded,
    receiver: "redis.Redis",
    admin: "redis.Redis",
    start_process: Callable[..., Process],
    tmp_path: Path,
) -> None:
    admin.acl_log_reset()
    bucket = tmp_path / "bucket"
    with closing(Gemini(tmp_path / "logs" / "emulator.log")) as gemini:
        batch = gemini.put_batch(b'{"key": "a", "response": {"candidates": []}}\n')
        Queues(receiver).announce([Announcement(batch, Trigger.WEBHOOK)])
        env = {**gemini.env, "REDIS_URL": guarded.url("workers"), "STORAGE_URL": bucket.as_uri()}
        worker = start_process("work", "--workers", "1", "--burst", env=env)
        assert worker.wait(60) == 0, worker.output

    assert (bucket / batch / "batch.json").exists(), worker.output
    # redis-py 8 asks for CLIENT MAINT_NOTIFICATIONS, which is Redis Enterprise's, and goes on without.
    refused = {(entry["username"], entry["object"]) for entry in admin.acl_log()}
    assert refused <= {("receiver", "client"), ("workers", "client")}, worker.output


def test_the_made_secrets_are_private_and_made_only_once(tmp_path: Path) -> None:
    def run() -> dict[str, str]:
        subprocess.run([DEPLOY / "secrets.sh", tmp_path / "s"], check=True, capture_output=True, timeout=30)
        files = [path for path in (tmp_path / "s").rglob("*") if path.is_file()]
        return {str(path.relative_to(tmp_path / "s")): path.read_text() for path in files}

    first = run()

    assert set(first) == {"users.acl", "redis-admin-password", "receiver/REDIS_URL", "workers/REDIS_URL"}
    assert run() == first
    assert len(set(re.findall(r"#([0-9a-f]{64}) ", first["users.acl"]))) == 3
    for name, text in first.items():
        path = tmp_path / "s" / name
        if name == "users.acl":
            assert not any(word in text for word in first["receiver/REDIS_URL"].split(":"))
        else:
            assert path.stat().st_mode & 0o077 == 0, name


@pytest.fixture
def entrypoint(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """The image's entry point, with a `batch-receiver` that prints its arguments and environment."""
    programs = tmp_path / "bin"
    programs.mkdir()
    fake = programs / "batch-receiver"
    fake.write_text('#!/bin/sh\nprintf "%s|" "$@"\necho\nenv\n')
    fake.chmod(0o755)
    (tmp_path / "secrets").mkdir()

    def run(*args: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [DEPLOY / "entrypoint.sh", *args],
            env={
                "PATH": f"{programs}:{os.environ['PATH']}",
                "SECRETS_FOLDER": str(tmp_path / "secrets"),
                **env,
            },
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        )

    return run


def test_secret_files_become_settings(
    entrypoint: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    (tmp_path / "secrets" / "GEMINI_API_KEY").write_text("k$(date) 'y\"\n")
    (tmp_path / "secrets" / "REDIS_URL").write_text("redis://secret\n")
    (tmp_path / "secrets" / "key.json").write_text("{}")

    lines = entrypoint("serve", "--host", "a b", REDIS_URL="redis://given").stdout.splitlines()

    assert lines[0] == "serve|--host|a b|"
    assert "GEMINI_API_KEY=k$(date) 'y\"" in lines
    assert "REDIS_URL=redis://given" in lines
    assert not any("key.json" in line or line.startswith("{}") for line in lines[1:])


def test_the_entry_point_needs_no_secrets(
    entrypoint: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    assert entrypoint("--help").stdout.startswith("--help|\n")


@pytest.mark.skipif(shutil.which("caddy") is None, reason="caddy is not installed")
def test_caddy_accepts_its_configuration() -> None:
    subprocess.run(
        ["caddy", "validate", "--adapter", "caddyfile", "--config", DEPLOY / "Caddyfile"],
        env={"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "DOMAIN": "example.com"},
        check=True,
        capture_output=True,
        timeout=30,
    )
