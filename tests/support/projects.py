"""Several Gemini projects behind one deployment: a local Gemini, a key, a signing secret and a folder for each."""

import json
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.gemini import Gemini
from tests.support.processes import Process
from tests.support.waiting import PATIENCE_SECONDS, wait_until

# Until the webhooks are there.
_ANY_SECRETS = ("whsec_" + "MDEy" * 10, "whsec_" + "MzQ1" * 10)


class Projects:
    """`tables` is what the file says of each project, and may be changed before `write`."""

    def __init__(
        self, start: Callable[..., Process], redis_url: str, folder: Path, names: Sequence[str]
    ) -> None:
        self._start = start
        self.folder = folder
        self.geminis: dict[str, Gemini] = {}
        self.tables: dict[str, dict[str, str]] = {}
        for name, secret in zip(names, _ANY_SECRETS, strict=True):
            gemini = Gemini(folder / f"{name}.log", "--seconds", "0.1", api_key=f"key-of-{name}")
            self.geminis[name] = gemini
            (folder / f"{name}.key").write_text(gemini.api_key)
            self._write_secret(name, secret)
            self.tables[name] = {
                "signing_secret_file": f"{name}.whsec",
                "api_key_file": f"{name}.key",
                "base_url": gemini.url,
                "storage": (folder / "buckets" / name).as_uri(),
            }
        self.env = {"REDIS_URL": redis_url, "PROJECTS_FILE": str(folder / "projects.toml")}
        self.write()

    def write(self) -> None:
        """The file of projects, in one step."""
        aside = self.folder / "projects.aside"
        with aside.open("w") as file:
            for name, table in self.tables.items():
                file.write(f"[projects.{name}]\n")
                file.writelines(f"{key} = {json.dumps(value)}\n" for key, value in table.items())
        aside.replace(self.folder / "projects.toml")

    def serve(self) -> Process:
        """A receiver that each Gemini has a webhook for."""
        process = self._start("serve", "--port", "0", env=self.env)
        origin = process.wait_for_output(r"listening on (http://127\.0\.0\.1:\d+)")[1]
        for name, gemini in self.geminis.items():
            webhook = gemini.create_webhook(f"{origin}/webhooks/{name}")
            self._write_secret(name, webhook["new_signing_secret"])
        process.signal(signal.SIGHUP)
        for name in self.geminis:
            process.wait_for_output(rf"event=secret_file_read file=\S+/{name}\.whsec")
        return process

    def work(self, *options: str, **settings: str) -> Process:
        process = self._start("work", *options, env={**self.env, **settings})
        process.wait_for_output("event=started")
        return process

    def run(self, *args: str, **settings: str) -> Process:
        """A command that has ended; look at its `output` and `returncode`."""
        process = self._start(*args, env={**self.env, **settings})
        process.wait()
        return process

    def bucket(self, name: str) -> Path:
        return self.folder / "buckets" / name

    def wait_for_commit(self, name: str, batch: str, seconds: float = PATIENCE_SECONDS) -> dict[str, Any]:
        """`batch.json`, once it is there."""
        path = self.bucket(name) / batch / "batch.json"
        wait_until(path.exists, seconds=seconds, what=f"the commit of {name}/{batch}")
        summary: dict[str, Any] = json.loads(path.read_bytes())
        return summary

    def close(self) -> None:
        for gemini in self.geminis.values():
            gemini.close()

    def _write_secret(self, name: str, secret: str) -> None:
        aside = self.folder / "aside.whsec"
        aside.write_text(secret + "\n")
        aside.chmod(0o600)
        aside.replace(self.folder / f"{name}.whsec")


@pytest.fixture
def projects(start_process: Callable[..., Process], redis_url: str, tmp_path: Path) -> Iterator[Projects]:
    """Two projects, `search` and `ads`, of which nothing runs yet but their Geminis and Redis."""
    folder = tmp_path / "projects"
    folder.mkdir()
    found = Projects(start_process, redis_url, folder, ["search", "ads"])
    yield found
    found.close()
