"""The secret file: private from its first moment, replaced whole or not at all."""

import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from receiver.registration.secret_file import SecretFileError, read_secrets, reserve
from workers.gemini.access import Secret

OLD = Secret("whsec_b2xkb2xkb2xkb2xkb2xkb2xk")
NEW = Secret("whsec_bmV3bmV3bmV3bmV3bmV3bmV3")


@pytest.fixture
def no_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.usefixtures("no_umask")
def test_everything_in_the_folder_is_private_at_every_moment(tmp_path: Path) -> None:
    file = tmp_path / "whsec"

    with reserve(file) as reserved:
        aside = list(tmp_path.iterdir())
        assert [mode(path) for path in aside] == [0o600]
        reserved.replace([NEW])

    assert list(tmp_path.iterdir()) == [file]
    assert mode(file) == 0o600


@pytest.mark.usefixtures("no_umask")
def test_a_file_that_others_could_read_is_private_after_its_replacement(tmp_path: Path) -> None:
    file = tmp_path / "whsec"
    file.write_text("")
    file.chmod(0o644)

    with reserve(file) as reserved:
        reserved.replace([NEW])

    assert mode(file) == 0o600


def test_secrets_stand_one_a_line_in_the_given_order_and_once(tmp_path: Path) -> None:
    file = tmp_path / "whsec"

    with reserve(file) as reserved:
        reserved.replace([NEW, OLD, NEW])

    assert file.read_text() == f"{NEW.reveal()}\n{OLD.reveal()}\n"
    assert read_secrets(file) == [NEW, OLD]


def test_a_reservation_that_is_not_used_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "whsec"
    file.write_text(f"{OLD.reveal()}\n")

    with reserve(file) as reserved:
        assert reserved.secrets == [OLD]

    assert list(tmp_path.iterdir()) == [file]
    assert read_secrets(file) == [OLD]


def test_a_reader_sees_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    file = tmp_path / "whsec"
    with reserve(file) as reserved:
        reserved.replace([OLD])
    seen, done = set(), threading.Event()

    def read() -> None:
        while not done.is_set():
            seen.add(tuple(read_secrets(file)))

    reader = threading.Thread(target=read)
    reader.start()
    for secrets in [[NEW, OLD], [OLD]] * 50:
        with reserve(file) as reserved:
            reserved.replace(secrets)
    done.set()
    reader.join()

    assert seen <= {(OLD,), (NEW, OLD)}


def test_a_symbolic_link_is_followed(tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    real.mkdir()
    link.symlink_to(real / "whsec")

    with reserve(link) as reserved:
        reserved.replace([NEW])

    assert link.is_symlink()
    assert read_secrets(real / "whsec") == [NEW]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_root_leaves_the_file_to_the_owner_of_its_folder(tmp_path: Path) -> None:
    os.chown(tmp_path, 10001, 10001)

    with reserve(tmp_path / "whsec") as reserved:
        reserved.replace([NEW])

    assert (tmp_path / "whsec").stat().st_uid == 10001


def test_a_missing_folder_is_found_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(SecretFileError, match="No such file"), reserve(tmp_path / "missing" / "whsec"):
        pytest.fail("nothing was reserved")


def test_a_folder_in_the_place_of_the_file_is_found_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(SecretFileError, match="directory"), reserve(tmp_path):
        pytest.fail("nothing was reserved")


def test_two_processes_do_not_replace_each_others_file(tmp_path: Path) -> None:
    file = tmp_path / "whsec"
    with reserve(file), pytest.raises(SecretFileError, match="Another process"), reserve(file):
        pytest.fail("reserved twice")


def test_a_folder_that_disappears_is_an_error_and_not_a_lost_traceback(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    folder.mkdir()
    with reserve(folder / "whsec") as reserved:
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
        with pytest.raises(SecretFileError, match="can't be written") as caught:
            reserved.replace([NEW])
    assert NEW.reveal() not in str(caught.value)


def test_a_file_that_is_no_text_is_refused_without_quoting_it(tmp_path: Path) -> None:
    file = tmp_path / "whsec"
    file.write_bytes(b"whsec_\xff\xfe")
    with pytest.raises(SecretFileError, match="not plain text") as caught:
        read_secrets(file)
    assert caught.value.__suppress_context__
