"""`batch-receiver emulator` as a process."""

import signal
import socket
from pathlib import Path

import pytest

from tests.support.processes import Process


def test_it_leaves_no_file_behind_when_it_is_asked_to_end(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    process = Process(["emulator"], {"TMPDIR": str(scratch)}, tmp_path / "log")
    process.wait_for_output(r"^emulator: listening on http://127\.0\.0\.1:\d+\n")
    assert list(scratch.iterdir())
    process.signal(signal.SIGTERM)
    assert process.wait() == 0
    assert not list(scratch.iterdir())


def test_a_port_in_use_is_said_in_one_sentence(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = Process(["emulator", "--port", str(port)], {}, tmp_path / "log")
        assert process.wait() == 1
    assert process.output == f"Error: Can't listen on 127.0.0.1, port {port}: Address already in use.\n"


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--port", "99999"),
        ("--port", "-1"),
        ("--port", "many"),
        ("--seconds", "-1"),
        ("--retry-first", "-0.1"),
        ("--retry-max", "-1"),
        ("--give-up", "-1"),
    ],
)
def test_a_number_out_of_range_is_wrong_usage(option: str, value: str, tmp_path: Path) -> None:
    process = Process(["emulator", option, value], {}, tmp_path / "log")

    assert process.wait() == 2
    assert process.output.splitlines()[-1].startswith(f"Error: Invalid value for '{option}': ")
    assert "Traceback" not in process.output


def test_a_host_that_does_not_exist_is_said_in_one_sentence(tmp_path: Path) -> None:
    process = Process(["emulator", "--host", "nowhere.invalid"], {}, tmp_path / "log")

    assert process.wait() == 1
    assert process.output == "Error: Can't listen on nowhere.invalid, port 0: there is no such host.\n"
