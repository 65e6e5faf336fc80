"""What is installed has the pages too."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.support.processes import ROOT


@pytest.mark.slow
def test_the_wheel_has_every_template_and_asset(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--wheel-dir",
        str(tmp_path),
        ".",
    ]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=110)
    [wheel] = tmp_path.glob("*.whl")
    packed = set(zipfile.ZipFile(wheel).namelist())
    ours = {
        str(path.relative_to(ROOT))
        for folder in ("templates", "static")
        for path in (ROOT / "console" / folder).iterdir()
    }

    assert len(ours) > 10
    assert ours <= packed
