import logging
import os
import re
import signal
from pathlib import Path

import pytest

from receiver.errors import SettingsError
from receiver.keyring import LOOK_SECONDS, SecretFile, is_open
from receiver.signatures import parse_secrets
from tests.receiver import signing
from tests.receiver.conftest import StartReceiver
from tests.receiver.signing import OTHER_KEY, OTHER_SECRET, SECRET, SECRET_KEY
from tests.support.waiting import wait_until

OLD = parse_secrets(SECRET)
NEW = parse_secrets(OTHER_SECRET)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now

    def pass_by(self) -> None:
        self.now += LOOK_SECONDS


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text(SECRET + "\n")
    return path


def replace(path: Path, text: str) -> None:
    aside = path.with_suffix(".new")
    aside.write_text(text)
    aside.replace(path)


def test_a_file_holds_one_secret_a_line(file: Path) -> None:
    file.write_text(f"{OTHER_SECRET}\n{SECRET}\n")
    assert SecretFile(file).secrets() == NEW + OLD


@pytest.mark.parametrize(("mode", "warns"), [(0o600, False), (0o640, False), (0o644, True)])
def test_a_file_that_every_user_can_read_is_warned_of(
    file: Path, caplog: pytest.LogCaptureFixture, mode: int, *, warns: bool
) -> None:
    file.chmod(mode)
    SecretFile(file)
    assert ("secret_file_open" in caplog.text) is warns


def test_a_changed_file_is_read_again_after_a_moment(file: Path) -> None:
    clock = Clock()
    secrets = SecretFile(file, clock)
    replace(file, OTHER_SECRET)
    assert secrets.secrets() == OLD
    clock.pass_by()
    assert secrets.secrets() == NEW


def test_a_secret_of_the_same_length_written_in_the_same_instant_is_seen(file: Path) -> None:
    clock = Clock()
    written = file.stat()
    secrets = SecretFile(file, clock)
    with file.open("r+") as same_file:
        same_file.write(OTHER_SECRET[: len(SECRET)])
    os.utime(file, ns=(written.st_atime_ns, written.st_mtime_ns))
    assert file.stat().st_size == written.st_size
    clock.pass_by()
    assert secrets.secrets() == NEW


@pytest.mark.parametrize("named", ["secret", "..data/secret"])
def test_a_volume_of_kubernetes_is_not_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, named: str
) -> None:
    (tmp_path / "..2026_11_25").mkdir()
    (tmp_path / "..2026_11_25" / "secret").write_text(SECRET)
    (tmp_path / "..2026_11_25" / "secret").chmod(0o644)
    (tmp_path / "..data").symlink_to("..2026_11_25")
    (tmp_path / "secret").symlink_to("..data/secret")
    SecretFile(tmp_path / named)
    assert "secret_file_open" not in caplog.text


def test_a_file_on_a_read_only_mount_is_not_warned_of() -> None:
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    read_only = [Path(mount[1]) for mount in mounts if mount[3].startswith("ro,")]
    readable = [path for path in read_only if path.exists() and path.stat().st_mode & 0o004]
    if not readable:
        pytest.skip("nothing is mounted read-only here")
    assert not any(is_open(path) for path in readable)


def test_a_swap_of_the_folder_behind_a_link_is_seen(tmp_path: Path) -> None:
    for name, secret in (("v1", SECRET), ("v2", OTHER_SECRET)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "secret").write_text(secret)
        os.utime(tmp_path / name / "secret", (1, 1))
    (tmp_path / "..data").symlink_to("v1")
    (tmp_path / "secret").symlink_to("..data/secret")
    clock = Clock()
    secrets = SecretFile(tmp_path / "secret", clock)
    (tmp_path / "..data_tmp").symlink_to("v2")
    (tmp_path / "..data_tmp").replace(tmp_path / "..data")
    clock.pass_by()
    assert secrets.secrets() == NEW


@pytest.mark.parametrize("broken", ["", "whsec_***", "no secret at all", "\udcff", "x" * 100_000, None])
def test_a_broken_new_file_keeps_the_old_secrets_and_says_so(
    file: Path, broken: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    secrets = SecretFile(file, clock)
    if broken is None:
        file.unlink()
    else:
        file.write_bytes(broken.encode(errors="surrogateescape"))
    clock.pass_by()
    with caplog.at_level(logging.ERROR, "receiver"):
        assert secrets.secrets() == OLD
    assert "event=secret_file_broken" in caplog.text
    assert not broken or broken not in caplog.text
    replace(file, OTHER_SECRET)
    clock.pass_by()
    assert secrets.secrets() == NEW


def test_a_file_that_is_missing_or_wrong_at_the_start_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"WEBHOOK_SIGNING_SECRET_FILE is wrong: it can't be read"):
        SecretFile(tmp_path / "none")


def test_a_new_secret_is_taken_up_at_once_at_sighup(
    start_receiver: StartReceiver, redis_url: str, file: Path
) -> None:
    receiver = start_receiver(redis_url, WEBHOOK_SIGNING_SECRET="", WEBHOOK_SIGNING_SECRET_FILE=str(file))
    for number, secret in enumerate((OTHER_SECRET, f"{SECRET} {OTHER_SECRET}", SECRET), start=1):
        replace(file, secret)
        receiver.process.signal(signal.SIGHUP)
        wait_until(lambda: receiver.process.output.count("event=reloaded") == number, what="reading anew")  # noqa: B023
    lines = re.findall(r"event=reloaded secrets=(\d)", receiver.process.output)
    assert lines == ["1", "2", "1"]
    body = signing.event()
    assert receiver.post(body, signing.signed(body, key=SECRET_KEY)).status == 200
    assert receiver.post(body, signing.signed(body, key=OTHER_KEY)).status == 401


def test_a_running_receiver_takes_up_a_new_secret(
    start_receiver: StartReceiver, redis_url: str, file: Path
) -> None:
    receiver = start_receiver(redis_url, WEBHOOK_SIGNING_SECRET="", WEBHOOK_SIGNING_SECRET_FILE=str(file))
    body = signing.event()
    assert receiver.post(body, signing.signed(body, key=SECRET_KEY)).status == 200
    replace(file, OTHER_SECRET)
    wait_until(
        lambda: receiver.post(body, signing.signed(body, key=OTHER_KEY)).status == 200,
        seconds=5,
        what="the new secret accepted",
    )
    assert receiver.post(body, signing.signed(body, key=SECRET_KEY)).status == 401
