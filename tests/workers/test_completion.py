"""What the documentation says about completion in a shell is so."""

import os
import subprocess
import sys

import pytest

from tests.support.processes import ROOT


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes_commands(shell: str) -> None:
    assert f"_BATCH_RECEIVER_COMPLETE={shell}_source batch-receiver" in (ROOT / "docs/told.md").read_text()
    env = {
        "PATH": os.environ["PATH"],
        "_BATCH_RECEIVER_COMPLETE": f"{shell}_complete",
        "COMP_WORDS": "batch-receiver st",
        "COMP_CWORD": "st" if shell == "fish" else "1",
    }
    code = "from receiver.cli import main; main(prog_name='batch-receiver')"
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, check=False
    )
    assert "status" in ended.stdout, ended.stderr
