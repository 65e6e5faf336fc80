"""A virtual environment with what readers of a bucket use, of the versions in `readers.txt`.

Made on the first use, below `.cache/readers`: a hundred megabytes that nothing else here needs.
"""

import fcntl
import shutil
import subprocess
import venv
from pathlib import Path

import pytest

from tests.support.processes import ROOT

_FOLDER = ROOT / ".cache" / "readers"
_WANTED = Path(__file__).with_name("readers.txt")
_INSTALL_SECONDS = 240


def readers_python() -> str:
    """The path of its interpreter; the test is skipped where it can't be had."""
    python = _FOLDER / "bin" / "python"
    installed = _FOLDER / "installed.txt"
    _FOLDER.mkdir(parents=True, exist_ok=True)
    with _FOLDER.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # Other workers of this test run want the same.
        if not installed.exists() or installed.read_bytes() != _WANTED.read_bytes():
            venv.create(_FOLDER, clear=True, with_pip=True)
            command: list[str | Path] = [python, "-m", "pip", "install", "--quiet", "--requirement", _WANTED]
            ended = subprocess.run(
                command, capture_output=True, text=True, check=False, timeout=_INSTALL_SECONDS
            )
            if ended.returncode:
                pytest.skip(f"pip could not install what readers use: {ended.stderr.strip()[-200:]}")
            shutil.copyfile(_WANTED, installed)
    return str(python)
