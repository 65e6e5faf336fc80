"""A plain machine as docs/deploy.md sets it up: systemd's socket and credentials, the ACL, Caddy with TLS, a store."""

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from emulator.demo.local_redis import find_redis_server, free_port
from tests.deploy.conftest import DEPLOY
from tests.sender.conftest import request_line, write_lines
from tests.support import redis_servers
from tests.support.gemini import Gemini
from tests.support.processes import Process
from tests.support.proxies import HOSTS, PATH, Proxy, program_of
from tests.support.s3 import S3

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(program_of("caddy") is None, reason="caddy is not installed"),
    pytest.mark.skipif(shutil.which("systemd-socket-activate") is None, reason="systemd is not installed"),
]


class Machine:
    """`etc` stands for /etc/batch-receiver, and the program of these tests for that below /opt."""

    def __init__(self, folder: Path, redis_port: int) -> None:
        self.etc = folder / "etc"
        self.secrets = self.etc / "secrets"
        subprocess.run([DEPLOY / "secrets.sh", self.secrets], check=True, capture_output=True)
        for user in ("receiver", "workers"):
            file = self.secrets / user / "REDIS_URL"
            file.write_text(file.read_text().replace("redis:6379", f"127.0.0.1:{redis_port}"))

    def unit(self, name: str) -> tuple[list[str], dict[str, str]]:
        """What a unit starts, and its credentials in a folder as systemd makes it."""
        text = (DEPLOY / "systemd" / name).read_text().replace("/etc/batch-receiver", str(self.etc))
        (start,) = re.findall(r"^ExecStart=\S+ (.*)$", text, re.MULTILINE)
        credentials = self.etc / f"credentials of {name}"
        credentials.mkdir()
        for credential, file in re.findall(r"^LoadCredential=(\w+):(\S+)$", text, re.MULTILINE):
            shutil.copyfile(file, credentials / credential)
        settings = (self.etc / "settings").read_text().splitlines()
        return start.split(), {
            **dict(line.split("=", 1) for line in settings),
            "CREDENTIALS_DIRECTORY": str(credentials),
        }


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    port = free_port()
    made = Machine(tmp_path, port)
    options = (
        "--bind",
        "127.0.0.1",
        "--port",
        str(port),
        "--appendonly",
        "yes",
        "--maxmemory-policy",
        "noeviction",
    )
    acl = ("--aclfile", str(made.secrets / "users.acl"))
    url = f"redis://health:none@127.0.0.1:{port}/0"
    with redis_servers.running(find_redis_server(), tmp_path, url, *options, *acl):
        yield made


def test_from_the_registration_through_tls_to_a_store_and_back_to_one_table(
    machine: Machine, s3: S3, start_process: Callable[..., Process], tmp_path: Path
) -> None:
    port = free_port()
    proxy = Proxy("caddy", tmp_path, port)
    trusted = f"export SSL_CERT_FILE={tmp_path}/cert.pem"
    gemini = Gemini(tmp_path / "gemini.log", "--seconds", "1", before=trusted)
    try:
        storage = s3.fresh_url()
        settings = {**s3.env, "STORAGE_URL": storage, "GOOGLE_GEMINI_BASE_URL": gemini.url}
        (machine.etc / "settings").write_text(
            "".join(f"{name}={value}\n" for name, value in settings.items())
        )
        key = {"GEMINI_API_KEY": gemini.api_key, "GOOGLE_GEMINI_BASE_URL": gemini.url}
        (machine.secrets / "GEMINI_API_KEY").write_text(gemini.api_key + "\n")
        url = f"https://localhost:{proxy.port}{PATH}"
        secret_file = str(machine.secrets / "WEBHOOK_SIGNING_SECRET")
        registered = start_process("register", "--url", url, "--secret-file", secret_file, env=key)
        assert registered.wait() == 0, registered.output

        serve, env = machine.unit("batch-receiver.service")
        listen = " ".join(f"--listen={host}:{port}" for host in HOSTS)
        passed = " ".join(f"--setenv={name}" for name in (*env, "PATH", "PYTHONPATH", "LOG_FORMAT"))
        activate = f'exec systemd-socket-activate {listen} {passed} "$@"'
        receiver = start_process(*serve, env=env, before=activate)
        receiver.wait_for_output("Listening on")
        work, env = machine.unit("batch-receiver-workers.service")
        workers = start_process(*work, env=env)
        workers.wait_for_output("event=started")
        proxy.wait_until_up()

        requests = write_lines(tmp_path / "requests.jsonl", [request_line(str(n)) for n in range(20)])
        mine = {**settings, **key}
        submitted = start_process("submit", str(requests), "--model", "gemini-2.5-flash", "--wait", env=mine)
        assert submitted.wait() == 0, submitted.output
        batch = re.findall(r"batches/(\w+)", submitted.output)[-1]
        verified = start_process("verify", batch, "--input", str(requests), env=mine)
        assert verified.wait() == 0, verified.output
        exported = start_process(
            "export", batch, "--format", "csv", "-o", str(tmp_path / "table.csv"), env=mine
        )
        assert exported.wait() == 0, exported.output

        assert len((tmp_path / "table.csv").read_text().splitlines()) == 21
        assert "trigger=webhook" in workers.output
        assert {each["state"] for each in gemini.deliveries()} == {"delivered"}
        assert workers.stop() == 0
        assert receiver.stop() == 0
    finally:
        gemini.close()
        proxy.close()
