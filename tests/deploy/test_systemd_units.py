"""The units of `deploy/systemd/`, as systemd itself judges them."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.conftest import DEPLOY

UNITS = DEPLOY / "systemd"
SERVICES = ("batch-receiver.service", "batch-receiver-workers.service")

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed"
)


def analyze(*arguments: str | Path) -> str:
    ended = subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout + ended.stderr


@needs_systemd
def test_systemd_finds_nothing_wrong_with_the_units(tmp_path: Path) -> None:
    # Whether there is such a program it looks at too.
    program = Path(sys.executable).with_name("batch-receiver")
    for unit in UNITS.iterdir():
        text = unit.read_text().replace("/opt/batch-receiver/bin/batch-receiver", str(program))
        (tmp_path / unit.name).write_text(text)
    assert analyze("verify", *sorted(tmp_path.iterdir())) == ""


@needs_systemd
@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_exposed_to_little(name: str) -> None:
    found = re.search(
        r"Overall exposure level for \S+: ([\d.]+)", analyze("security", "--offline=true", UNITS / name)
    )
    assert found
    assert float(found[1]) <= 2.0


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_watched_never_given_up_and_given_its_secrets_as_credentials(name: str) -> None:
    text = (UNITS / name).read_text()
    for line in ("Type=notify", "StartLimitIntervalSec=0", "Restart=always", "LimitNOFILE=8192"):
        assert f"\n{line}\n" in text
    assert re.search(r"^WatchdogSec=\d+$", text, re.MULTILINE)
    assert re.search(r"^LoadCredential=REDIS_URL:", text, re.MULTILINE)
    assert not re.search(r"^Environment=.*(KEY|SECRET|URL)=", text, re.MULTILINE)
