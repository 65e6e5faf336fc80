"""compose.yaml in podman, with an emulator on the workers' own loopback, where Gemini may be plain http."""

import json
import shutil
import subprocess
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from tests.receiver.signing import SECRET, event, signed
from tests.support.proxies import PATH, unchecked
from tests.support.waiting import wait_until

EMULATOR = "http://127.0.0.1:9999"
CONFINED = ("--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--security-opt=no-new-privileges")

_SETTINGS = f"DOMAIN=localhost\nWORKERS=2\nGOOGLE_GEMINI_BASE_URL={EMULATOR}\nRECONCILE_INTERVAL_SECONDS=0\n"
_ASK = (
    "import sys, urllib.request as u;"
    "print(u.urlopen(u.Request(sys.argv[2], sys.stdin.buffer.read() or None, method=sys.argv[1],"
    " headers={'content-type': 'application/json'})).read().decode())"
)


def podman(*args: str, data: bytes = b"") -> str:
    ended = subprocess.run(["podman", *args], input=data, capture_output=True, check=False, timeout=300)
    assert ended.returncode == 0, (args, ended.stderr.decode())
    return ended.stdout.decode() + (ended.stderr.decode() if args[0] == "logs" else "")


def choose(version: str) -> None:
    """Which of the images that were built compose takes: `previous` or `next`."""
    podman("tag", f"batch-receiver:{version}", "batch-receiver:latest")


class Compose:
    """What a file of compose describes, by the name of its project, in a folder like `deploy/`."""

    def __init__(self, deploy: Path, program: str, project: str, *options: str) -> None:
        self.deploy = deploy
        self._command = [program, "--in-pod=false", "--podman-run-args=--pull=never", *options]
        self._prefix = f"{project}_"

    def names(self) -> list[str]:
        """The containers that run."""
        return podman("ps", "--filter", f"name=^{self._prefix}", "--format", "{{.Names}}").split()

    def of(self, service: str) -> list[str]:
        return sorted(name for name in self.names() if name.startswith(f"{self._prefix}{service}_"))

    def is_healthy(self, name: str) -> bool:
        check = ["podman", "healthcheck", "run", name]
        return subprocess.run(check, capture_output=True, check=False, timeout=60).returncode == 0

    def wait_for_health(self, name: str) -> None:
        try:
            wait_until(partial(self.is_healthy, name), seconds=120, what=f"{name}'s health")
        except AssertionError as error:
            raise AssertionError(f"{error}, and it says: {podman('logs', '--tail', '20', name)}") from None

    def run(self, *args: str) -> None:
        ended = subprocess.run(
            [*self._command, *args], cwd=self.deploy, capture_output=True, check=False, timeout=300
        )
        assert ended.returncode == 0, ended.stderr.decode()

    def remove(self) -> None:
        self.clear()
        self.run("down", "--volumes", "--timeout", "5")

    def clear(self) -> None:
        """`compose down` stumbles over a service that was scaled.

        One at a time, each with those that need it: told several at once, podman 4.3 leaves some and ends with 0.
        """

        def are_gone() -> bool:
            for name in self._all():
                remove = ["podman", "rm", "--force", "--ignore", "--time", "0", "--depend", name]
                subprocess.run(remove, capture_output=True, check=False, timeout=60)
            return not self._all()

        wait_until(are_gone, seconds=60, what="the end of all containers")

    def forget(self) -> None:
        """What a run that was killed has left, its data too."""
        self.clear()
        for volume in podman("volume", "ls", "--quiet", "--filter", f"name=^{self._prefix}").split():
            podman("volume", "rm", volume)

    def _all(self) -> list[str]:
        known = f"name=^{self._prefix}|^emulator$"
        return podman("ps", "--all", "--filter", known, "--format", "{{.Names}}").split()


class Stack(Compose):
    """`source`: whose deploy/ is brought up. `folder` keeps secrets and settings from one version to the next."""

    def __init__(self, folder: Path, compose: str) -> None:
        super().__init__(folder / "deploy", compose, "batch-receiver")

    def up(self, source: Path, *options: str) -> None:
        shutil.copytree(source / "deploy", self.deploy, dirs_exist_ok=True)
        (self.deploy / ".env").write_text(_SETTINGS)
        subprocess.run([self.deploy / "secrets.sh"], check=True, capture_output=True)
        for name, secret in (("webhook/whsec", SECRET), ("workers/GEMINI_API_KEY", "test-key")):
            (self.deploy / "secrets" / name).write_text(secret + "\n")
        subprocess.run(["chown", "-R", "10001:10001", self.deploy / "secrets" / "webhook"], check=True)
        subprocess.run(["chown", "-R", "10001:10001", self.deploy / "secrets" / "workers"], check=True)
        self.clear()
        self.run("up", "--detach", "--no-build", *options)
        for name in self.names():
            self.wait_for_health(name)

    def start_emulator(self) -> None:
        """Without any batch; the one before went with the workers that it shared a loopback with."""
        podman("rm", "--force", "--ignore", "emulator")
        podman(
            "run", "--detach", "--pull=never", "--name=emulator", f"--network=container:{self.of('workers')[0]}",
            "batch-receiver", "emulator", "--port", "9999", "--api-key", "test-key",
        )  # fmt: skip
        wait_until(lambda: "listening" in podman("logs", "emulator"), what="the emulator")

    def ask(self, method: str, path: str, data: bytes = b"") -> Any:
        """The emulator's control API."""
        url = f"{EMULATOR}/_emulator/{path}"
        text = podman("exec", "--interactive", "emulator", "python", "-c", _ASK, method, url, data=data)
        return json.loads(text) if text.strip() else None

    def put_batch(self, batch: str, lines: bytes) -> None:
        self.ask("POST", f"batches?id={batch}&state=SUCCEEDED", lines)

    def deliver(self, client: httpx.Client, batch: str) -> int:
        body = event(batch)
        try:
            answer = client.post(f"https://localhost{PATH}", content=body, headers=signed(body))
        except httpx.HTTPError:
            return 0
        return answer.status_code

    def summary(self, batch: str) -> dict[str, Any]:
        """`batch.json`, once it stands in the volume."""
        volume = Path(
            podman("volume", "inspect", "--format", "{{.Mountpoint}}", "batch-receiver_bucket").strip()
        )
        path = volume / batch / "batch.json"
        wait_until(path.exists, seconds=90, what=f"the commit of {batch}")
        document: dict[str, Any] = json.loads(path.read_bytes())
        return document

    def stop(self, names: Iterable[str]) -> dict[str, int]:
        """How each of them ended."""
        names = list(names)
        podman("stop", "--time", "60", *names)
        return {name: int(podman("inspect", "--format", "{{.State.ExitCode}}", name)) for name in names}


def client() -> httpx.Client:
    return httpx.Client(verify=unchecked(), timeout=40, trust_env=False)
