"""What stands in `deploy/`: it names only what exists, and opens only what it must."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import click
import pytest

from console.settings import Settings as ConsoleSettings
from receiver import settings as receiver_settings
from receiver.cli import main
from tests.support.compose import read_yaml
from tests.support.processes import ROOT
from workers.contract.setting.reading import CREDENTIALS
from workers.contract.settings import SETTINGS
from workers.settings import Settings as WorkerSettings

DEPLOY = ROOT / "deploy"

COMPOSE_OWN = frozenset({"DOMAIN", "WORKERS"})
LONG_RUNNING = ("caddy", "receiver", "workers", "console", "redis")


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
    assert set(ours) == {"receiver", "workers", "console", "register"}
    for service in ours.values():
        assert_command_exists([substituted(argument) for argument in service["command"]])
        check = service.get("healthcheck", {"test": []})["test"]
        if check[1:2] == ["batch-receiver"]:
            assert_command_exists(check[2:])


def test_the_image_runs_the_receiver_unless_told_otherwise(services: dict[str, Any]) -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    (command,) = re.findall(r"^CMD (\[.*\])$", text, re.MULTILINE)
    assert_command_exists(json.loads(command))
    assert json.loads(command) == services["receiver"]["command"]
    assert 'ENTRYPOINT ["tini", "--", "batch-receiver"]' in text
    assert f"{CREDENTIALS}=/run/secrets " in text


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


def test_only_caddy_is_reachable_from_outside_and_the_console_from_this_machine(
    services: dict[str, Any],
) -> None:
    ports = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert ports == {"caddy": ["80:80", "443:443"], "console": ["127.0.0.1:8090:8090"]}


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
        "console": {"workers:/run/secrets:ro", "console:/run/console:ro"},
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
    read = {each.name for each in SETTINGS if not each.is_secret}
    assert passed == read - {"PORT"} | {"DOMAIN", "CONSOLE_PASSWORD_FILE"}


def test_receiver_and_workers_are_given_the_same_queues(services: dict[str, Any]) -> None:
    given = {name for name, service in services.items() if "QUEUE_PREFIX" in service.get("environment", {})}
    assert given == {"receiver", "workers", "console"}


def test_the_settings_that_compose_gives_are_accepted(services: dict[str, Any]) -> None:
    def given(service: str) -> dict[str, str]:
        return {name: substituted(text) for name, text in services[service]["environment"].items()}

    served = receiver_settings.load(given("receiver"))
    worked = WorkerSettings.load({**given("workers"), "GEMINI_API_KEY": "key"})

    assert served == receiver_settings.load({"WEBHOOK_SIGNING_SECRET_FILE": "/run/webhook/whsec"})
    shown = ConsoleSettings.load(
        {**given("console"), "CONSOLE_PASSWORD_FILE": "", "CONSOLE_PASSWORD": "x"}, "0.0.0.0"
    )
    (project,) = shown.projects
    assert (project.storage_url, project.queue_prefix) == ("file:///bucket", "batch-receiver")
    assert not shown.read_only
    usual = WorkerSettings.load({"STORAGE_URL": "file:///bucket", "GEMINI_API_KEY": "key"})
    assert repr(worked) == repr(usual)


def test_caddy_lets_the_webhook_and_the_health_paths_through_and_nothing_else() -> None:
    text = (DEPLOY / "Caddyfile").read_text()
    assert "@open path {$WEBHOOK_PATH:/webhooks/gemini} /healthz /readyz\n" in text
    assert text.count("reverse_proxy") == 1
    assert "max_size" not in text
    assert "respond 404" in text


def test_no_secret_stands_in_the_folder() -> None:
    for path in DEPLOY.iterdir():
        if path.is_file():
            assert not re.search(r"whsec_\w|AIza\w|[0-9a-f]{32}", path.read_text()), path


def test_the_made_secrets_are_private_and_made_only_once(tmp_path: Path) -> None:
    def run() -> dict[str, str]:
        subprocess.run([DEPLOY / "secrets.sh", tmp_path / "s"], check=True, capture_output=True, timeout=30)
        files = [path for path in (tmp_path / "s").rglob("*") if path.is_file()]
        return {str(path.relative_to(tmp_path / "s")): path.read_text() for path in files}

    first = run()

    assert set(first) == {
        "users.acl", "redis-admin-password", "receiver/REDIS_URL", "workers/REDIS_URL", "console/CONSOLE_PASSWORD",
    }  # fmt: skip
    assert run() == first
    assert len(set(re.findall(r"#([0-9a-f]{64}) ", first["users.acl"]))) == 3
    for name, text in first.items():
        path = tmp_path / "s" / name
        if name == "users.acl":
            assert not any(word in text for word in first["receiver/REDIS_URL"].split(":"))
        else:
            assert path.stat().st_mode & 0o077 == 0, name


def test_run_again_secrets_sh_gives_the_rights_of_this_version_to_the_passwords_there_are(
    tmp_path: Path,
) -> None:
    def run() -> str:
        command = [DEPLOY / "secrets.sh", tmp_path / "s"]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stderr

    run()
    acl, urls = tmp_path / "s" / "users.acl", sorted((tmp_path / "s").rglob("REDIS_URL"))
    made, passwords = acl.read_text(), [url.read_text() for url in urls]
    own = "user mine on #" + "0" * 64 + " ~mine:* +get\n"
    former = re.sub("^user default .*", "user default reset resetchannels off", made, flags=re.MULTILINE)
    former = former.replace(" +xadd", "") + own
    acl.write_text(former)

    assert "restart Redis" in run()
    assert acl.read_text() == made + own
    assert acl.with_name("users.acl.before").read_text() == former
    assert acl.stat().st_mode & 0o777 == 0o644
    assert [url.read_text() for url in urls] == passwords
    assert "restart Redis" not in run()


@pytest.mark.skipif(shutil.which("caddy") is None, reason="caddy is not installed")
def test_caddy_accepts_its_configuration() -> None:
    subprocess.run(
        ["caddy", "validate", "--adapter", "caddyfile", "--config", DEPLOY / "Caddyfile"],
        env={"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "DOMAIN": "example.com"},
        check=True,
        capture_output=True,
        timeout=30,
    )
