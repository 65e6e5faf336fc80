"""Real processes for end-to-end tests: started here, ended here, by id."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.support.waiting import PATIENCE_SECONDS, wait_until

ROOT = Path(__file__).resolve().parents[2]


class Process:
    """`batch-receiver <args>` as a process of its own, its output in a file."""

    def __init__(
        self,
        args: list[str],
        env: Mapping[str, str],
        log: Path,
        *,
        before: str = "",
        stdin: int = subprocess.DEVNULL,
    ) -> None:
        """`before` is what a shell does first, in the process that then becomes the command."""
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "receiver.cli", *args]
        if before:
            command = ["sh", "-c", f'{before}; exec "$@"', "sh", *command]
        with log.open("ab") as output:
            self._popen = subprocess.Popen(
                command,
                env={
                    "PATH": os.environ["PATH"],
                    "PYTHONPATH": str(ROOT),
                    "PYTHONWARNINGS": "default",
                    "LOG_FORMAT": "text",  # which tests read
                    **env,
                },
                stdout=output,
                stderr=output,
                stdin=stdin,
            )

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def returncode(self) -> int | None:
        return self._popen.poll()

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def wait_for_output(self, pattern: str, seconds: float = PATIENCE_SECONDS) -> re.Match[str]:
        def look() -> re.Match[str] | None:
            found = re.search(pattern, self.output)
            if not found and self._popen.poll() is not None:
                raise AssertionError(
                    f"ended with {self._popen.returncode} before {pattern!r}:\n{self.output}"
                )
            return found

        found = wait_until(look, seconds=seconds, what=f"{pattern!r} in {self.log}")
        assert found
        return found

    def wait(self, seconds: float = PATIENCE_SECONDS) -> int:
        return self._popen.wait(seconds)

    def signal(self, number: signal.Signals) -> None:
        self._popen.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, as a power cut would."""
        self._popen.kill()
        self._popen.wait()

    def stop(self) -> int:
        """SIGTERM, and SIGKILL where that does not help within the tests' patience."""
        self._popen.terminate()
        try:
            return self._popen.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
