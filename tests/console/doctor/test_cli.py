"""How a diagnosis is printed, and that a check that breaks stops no other."""

import json
import threading
from pathlib import Path

import click
import pytest

from console.doctor.check import Check, Finding, Status, ok
from console.doctor.fact import CannotTell, Fact
from console.doctor.place import Place
from console.doctor.report import line, markdown, verdict
from console.doctor.run import Examination, run
from tests.console.doctor.conftest import Healthy

PASSWORD = "hunter2-hunter2"


def place(tmp_path: Path, **settings: str) -> Place:
    return Place(settings, tmp_path)


def test_a_check_that_breaks_or_never_ends_stops_no_other(tmp_path: Path) -> None:
    never = threading.Event()

    def breaks(_: Place) -> Finding:
        raise KeyboardInterrupt

    def cannot(_: Place) -> Finding:
        raise CannotTell("Not from here.")

    def waits(_: Place) -> Finding:
        never.wait()
        return ok("")

    examinations = [
        Examination("breaks", breaks),
        Examination("waits", waits),
        Examination("cannot", cannot),
        Examination("fine", lambda _: ok("Fine.")),
    ]
    found = [*run(examinations, [place(tmp_path)], seconds=0.5)]
    never.set()

    assert [(check.name, check.status) for check in found] == [
        ("breaks", "failed"),
        ("waits", "failed"),
        ("cannot", "skipped"),
        ("fine", "ok"),
    ]
    assert "No answer within 0.5 seconds." in found[1].message


def test_what_several_need_is_found_out_once_and_told_by_its_owner_alone() -> None:
    asked = []

    def find() -> int:
        asked.append(1)
        raise ValueError("broken")

    fact = Fact("redis", find)
    for _ in range(3):
        with pytest.raises(CannotTell, match="before `redis` is mended"):
            fact.needed()
    with pytest.raises(ValueError, match="broken"):
        fact.found()

    assert len(asked) == 1


def test_no_secret_of_the_environment_is_in_anything_that_is_said(tmp_path: Path) -> None:
    secrets = {
        "REDIS_URL": f"redis://user:{PASSWORD}@127.0.0.1:1/0",
        "GEMINI_API_KEY": "AIza-a-key-of-ours",
        "WEBHOOK_SIGNING_SECRET": "whsec_b25lb25lb25lb25l whsec_dHdvdHdvdHdvdHdv",
        "AWS_SECRET_ACCESS_KEY": "aws-secret-value",
        "CONSOLE_PASSWORD": "open sesame",
    }
    here = place(tmp_path, **secrets)
    said = " ".join([PASSWORD, *secrets.values()])

    masked = here.masked(said)
    for secret in (PASSWORD, "AIza-a-key-of-ours", "b25l", "dHdv", "aws-secret-value", "sesame"):
        assert secret not in masked


def test_every_form_of_the_report_is_without_secrets_and_harmless() -> None:
    checks = [
        Check("redis", Status.FAILED, "Bad \x1b[31m<b>|", "redis-cli PING"),
        Check("clock", Status.WARNING, "Late.", None),
    ]

    assert "\x1b" not in click.unstyle(line(checks[0]))
    assert "$ redis-cli PING" in click.unstyle(line(checks[0]))
    assert "&lt;b>\\|" in markdown(checks)
    assert verdict(checks) == "1 failure, and 1 warning: mend the first one first, and run it again."
    assert verdict(checks[1:]) == "It works, with 1 warning."
    assert verdict([]) == "All is well."


def test_it_prints_a_table_a_document_or_lines_and_exits_0_for_warnings(healthy: Healthy) -> None:
    healthy.secret_file.chmod(0o640)
    lines, table, document = (
        healthy.run("doctor", *options) for options in ((), ("--markdown",), ("--json",))
    )
    healthy.secret_file.chmod(0o600)

    assert (lines.returncode, table.returncode, document.returncode) == (0, 0, 0), lines.stdout
    assert "! file modes" in lines.stdout
    assert lines.stdout.endswith("It works, with 1 warning.\n")
    assert "| file modes | warning |" in table.stdout
    assert json.loads(document.stdout)["ok"] is True
    assert healthy.run("doctor", "--json", "--markdown").returncode == 2
    secrets = healthy.secret_file.read_text().split()
    assert not any(secret in lines.stdout + table.stdout + document.stdout for secret in secrets)
