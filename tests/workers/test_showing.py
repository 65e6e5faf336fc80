"""On a terminal: what is shown fits it, moves while work goes on, and does nothing that a terminal obeys."""

import fcntl
import json
import os
import re
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest
from redis import Redis
from rich.text import Text

from tests.support.deployment import Deployment, result_line
from tests.support.processes import ROOT
from tests.support.waiting import wait_until
from workers.contract.history.pages import Pages


class Terminal:
    """A command on a terminal of so many columns."""

    def __init__(self, args: list[str], env: Mapping[str, str], columns: int) -> None:
        self._ours, theirs = os.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
        os.set_blocking(self._ours, False)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "receiver.cli", *args],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "TERM": "xterm-256color", **env},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        self._shown = b""

    @property
    def shown(self) -> str:
        try:
            while more := os.read(self._ours, 65536):
                self._shown += more
        except OSError:
            pass
        return self._shown.decode(errors="replace")

    def end(self) -> str:
        wait_until(
            lambda: (self.shown, self.process.poll())[1] is not None, seconds=90, what="the command's end"
        )
        return self.shown

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._ours)


@contextmanager
def terminal(args: list[str], env: Mapping[str, str], columns: int = 80) -> Iterator[Terminal]:
    found = Terminal(args, env, columns)
    try:
        yield found
    finally:
        found.close()


@pytest.mark.parametrize("columns", [40, 60, 80, 140])
def test_status_fits_the_terminal_and_cuts_no_batch_id(columns: int, deployment: Deployment) -> None:
    batch = deployment.gemini.put_batch(result_line("a"), display_name="nightly " * 20)
    deployment.run("process", batch)

    with terminal(["status"], deployment.env, columns) as shown:
        lines = [Text.from_ansi(line).plain.rstrip() for line in shown.end().splitlines()]

    assert max(map(len, lines)) <= columns
    # Where it is too long for its column it goes on in the next line.
    head = next(at for at, line in enumerate(lines) if line.startswith("batch"))
    assert "".join(line.split(" ")[0] for line in lines[head + 1 :]) == batch


def test_a_hostile_name_is_only_text(deployment: Deployment) -> None:
    hostile = "\x1b]0;owned\x07\x1b[2J[bold]x[/bold]"
    batch = deployment.gemini.put_batch(result_line("a"), display_name=hostile)
    deployment.run("process", batch)

    with terminal(["status"], deployment.env, 140) as on_terminal:
        shown = on_terminal.end()
    piped = deployment.run("status").output

    for each in (shown, piped):
        assert "\x1b]0" not in each
        assert "\x1b[2J" not in each
        assert "\x07" not in each
    assert "\x1b" not in piped


def test_status_is_looked_at_again_until_it_is_interrupted(deployment: Deployment) -> None:
    with terminal(["status", "--watch"], deployment.env) as shown:
        wait_until(lambda: shown.shown.count("committed today") >= 2, what="a second look")
        shown.process.send_signal(signal.SIGINT)
        shown.end()
        assert shown.process.returncode == 0


def test_status_that_is_watched_as_json_is_a_document_a_line(deployment: Deployment) -> None:
    process = deployment._start("status", "--watch", "--json", env=deployment.env)
    wait_until(lambda: process.output.count("\n") >= 2, what="two documents")
    process.signal(signal.SIGINT)
    assert process.wait() == 0
    assert all("totals" in json.loads(line) for line in process.output.splitlines() if line)


def test_process_shows_bytes_and_keys_on_a_terminal_and_nothing_of_it_elsewhere(
    deployment: Deployment,
) -> None:
    lines = b"".join(result_line(f"k{n}", "x" * 2000) for n in range(600))
    env = {**deployment.env, "PART_BYTES": "200000"}
    batch = deployment.gemini.put_batch(lines)

    with terminal(["process", batch], env, 120) as shown:
        told = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.end())
        assert shown.process.returncode == 0
    assert re.search(r"(fetching|writing) [\d.]+ (kB|MB)", told)
    assert re.search(r"[\d,]+ of 600 keys", told)

    other = deployment.gemini.put_batch(lines)
    assert "keys" not in deployment.run("process", other, PART_BYTES="200000").output


def test_the_status_of_a_batch_says_what_it_cost(deployment: Deployment) -> None:
    batch = deployment.gemini.put_batch(result_line("a"))
    deployment.run("process", batch)

    assert re.search(
        r"19 tokens, about 0\.0\d+ USD \(genai-prices [\d.]+, ", deployment.run("status", batch).output
    )


def test_what_is_done_by_command_stands_in_the_log_of_actions(deployment: Deployment) -> None:
    deployment.run("replay", "abc", "--force")
    deployment.run("forget", "abc")

    with Redis.from_url(deployment.env["REDIS_URL"]) as client:
        found = [dict(each.fields) for each in Pages(client, "batch-receiver").actions()]
    assert found == [
        {"who": "command line", "action": "forget", "batch": "abc", "jobs": "1"},
        {"who": "command line", "action": "replay", "batch": "abc", "refetch": "0", "outcome": "accepted"},
    ]
