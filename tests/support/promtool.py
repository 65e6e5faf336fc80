"""Alert rules tried by promtool on what was really scraped, carried on as it was going.

Two scrapes say where each series stands and where it goes: from then on a counter grows as it did between them, an age
grows and what is left shrinks as time goes by, and everything else stays. So a fault that was made for seconds lasts
for days.
"""

import json
import re
import shutil
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.processes import ROOT

RULES = ROOT / "deploy/monitoring/alerts.yaml"
ALERTS = re.findall(r"- alert: (\w+)", RULES.read_text())
_NAMED = set(re.findall(r"batch_receiver_\w+", RULES.read_text()))
_MINUTES = 5
"""Between two samples."""


@dataclass(frozen=True)
class Scrape:
    """`at`: seconds since 1970. `values` by series, of those that the rules name."""

    at: float
    values: Mapping[str, float]


def scrape(*urls: str) -> Scrape:
    """What these addresses say of what the rules name."""
    values: dict[str, float] = {}
    for url in urls:
        answer = httpx.get(f"{url}/metrics", timeout=30, trust_env=False).raise_for_status()
        for family in text_string_to_metric_families(answer.text):
            for sample in family.samples:
                labels = ",".join(
                    f"{name}={json.dumps(value)}" for name, value in sorted(sample.labels.items())
                )
                if sample.name in _NAMED:
                    values[f"{sample.name}{{{labels}}}"] = sample.value
    return Scrape(time.time(), values)


def promtool(folder: Path, *arguments: str, seconds: float = 60) -> str:
    """What it says; the test is skipped where it is not installed, and fails where it finds something."""
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is not installed (Debian's package prometheus)")
    ended = subprocess.run(
        [program, *arguments], cwd=folder, capture_output=True, text=True, timeout=seconds, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def assert_alerts(
    folder: Path, before: Scrape, after: Scrape, firing: Mapping[str, tuple[float, float]], hours: float
) -> None:
    """Of the alerts in `firing` each is silent after the first number of hours and fires after the second one.

    All others are left out, unless `firing` is empty: then all are silent all the time.
    """
    shutil.copy(RULES, folder / "alerts.yaml")
    count = int(hours * 60 / _MINUTES) + 1
    checked = [
        _expected(alert, hour, fires=fires)
        for alert, moments in firing.items()
        for hour, fires in zip(moments, (False, True), strict=True)
    ] or [_expected(alert, hour, fires=False) for alert in ALERTS for hour in range(int(hours))]
    names = before.values.keys() | after.values.keys()
    case = {
        "interval": f"{_MINUTES}m",
        "input_series": [
            {"series": name, "values": " ".join(map(_written, _carried_on(name, before, after, count)))}
            for name in sorted(names)
        ],
        "promql_expr_test": checked,
    }
    told = {"rule_files": ["alerts.yaml"], "evaluation_interval": "1m", "tests": [case]}
    (folder / "case.yaml").write_text(json.dumps(told))
    promtool(folder, "test", "rules", "case.yaml", seconds=120)


def _expected(alert: str, hour: float, *, fires: bool) -> dict[str, object]:
    return {
        "expr": f'count(count by (alertname) (ALERTS{{alertname="{alert}",alertstate="firing"}}))',
        "eval_time": f"{round(hour * 60)}m",
        "exp_samples": [{"labels": "{}", "value": 1}] if fires else [],
    }


def _carried_on(name: str, before: Scrape, after: Scrape, count: int) -> list[float | None]:
    seconds = [60.0 * _MINUTES * number for number in range(count)]
    # promtool's time begins at 0.
    first, last = before.values.get(name), after.values.get(name)
    if last is None:
        return [None] * count
    first = last if first is None else first
    kind = name.partition("{")[0]
    if kind.endswith("_timestamp_seconds"):
        age = after.at - last
        return [each - age if last > first else -age for each in seconds]
    if kind.endswith("_total"):
        return [first + (last - first) * number for number in range(count)]
    if kind.endswith("_oldest_seconds"):
        return [last + each if last > first else last for each in seconds]
    if kind.endswith("_expiry_seconds"):
        return [last - each for each in seconds]
    return [last] * count


def _written(value: float | None) -> str:
    return "_" if value is None else repr(value).replace("inf", "Inf")
