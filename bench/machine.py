"""The machine as far as figures depend on it. No names."""

import os
import platform
import re
from functools import cache
from pathlib import Path

import psutil


@cache
def describe() -> str:
    """Such as `2 cores AMD EPYC, 24 GB, Linux 6.1, Python 3.11.7`."""
    memory = psutil.virtual_memory().total / 1e9
    return (
        f"{os.cpu_count()} cores {_cpu()}, {memory:.0f} GB memory, "
        f"{platform.system()}, Python {platform.python_version()}"
    )


def _cpu() -> str:
    try:
        found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    except OSError:
        found = None
    return found[1].strip() if found else platform.machine()
