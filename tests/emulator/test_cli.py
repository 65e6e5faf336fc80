"""`batch-receiver emulator` as a process."""

import signal
import socket
from pathlib import Path

import pytest

from emulator.cli import emulator
from tests.support.processes import Process


def test_it_leaves_no_file_behind_when_it_is_asked_to_end(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    process = Process(["emulator", "--port", "0"], {"TMPDIR": str(scratch)}, tmp_path / "log")
    process.wait_for_output(r"^emulator: listening on http://127\.0\.0\.1:\d+\n")
    assert list(scratch.iterdir())
    process.signal(signal.SIGTERM)
    assert process.wait() == 0
    assert not list(scratch.iterdir())


@pytest.mark.parametrize("options", [[], ["--api-key", "mine"]])
def test_it_prints_what_a_clients_environment_needs_but_no_key_that_it_was_given(
    options: list[str], tmp_path: Path
) -> None:
    process = Process(["emulator", "--port", "0", *options], {}, tmp_path / "log")
    url = process.wait_for_output(r"listening on (\S+)\n")[1]
    process.wait_for_output(f"export GOOGLE_GEMINI_BASE_URL={url}\n")
    process.wait_for_output(f"export WEBHOOK_JWKS_URL={url}/.well-known/jwks.json\n")
    process.signal(signal.SIGTERM)
    process.wait()
    assert ("export GEMINI_API_KEY=any\n" in process.output) is (not options)
    assert "mine" not in process.output


def test_its_port_is_the_same_at_every_start_unless_another_is_asked_for() -> None:
    assert {option.name: option.default for option in emulator.params}["port"] == 8081


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
    assert process.output == "Error: Can't listen on nowhere.invalid, port 8081: there is no such host.\n"
