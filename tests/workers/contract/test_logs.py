"""Lines have a constant event and fields: JSON off a terminal, text on one, documented, with nothing that runs on."""

import json
import logging
import re
from collections.abc import Iterator

import pytest

from tests.support.deployment import Deployment, result_line
from tests.support.processes import ROOT
from workers.contract import logs
from workers.contract.setting.reading import WrongSetting
from workers.contract.settings import LOG_FORMAT


class Written:
    """What was logged, as it stands on standard error."""

    def __init__(self, capture: pytest.CaptureFixture[str]) -> None:
        self._capture = capture

    @property
    def lines(self) -> list[str]:
        return self._capture.readouterr().err.splitlines()

    @property
    def documents(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.lines]


@pytest.fixture
def written(capsys: pytest.CaptureFixture[str]) -> Iterator[Written]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield Written(capsys)
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_line_is_json_off_a_terminal(written: Written) -> None:
    logs.configure("auto")
    with logs.bound(batch="abc", part=3):
        logs.named("workers").warning("retry", reason='It said "no".\nTwice.', seconds=7)
    logs.named("workers").info("started")

    first, second = written.documents
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", str(first.pop("at")))
    assert first == {
        "level": "warning",
        "logger": "workers",
        "event": "retry",
        "batch": "abc",
        "part": 3,
        "reason": 'It said "no".\nTwice.',
        "seconds": 7,
    }
    assert "batch" not in second


def test_a_line_is_text_where_that_is_asked_for(written: Written) -> None:
    logs.configure("text")
    logs.named("workers").warning("retry", batch="abc", reason="a\nb", n=100 * "%d")

    (line,) = written.lines
    assert re.fullmatch(r'.* WARNING workers: event=retry batch=abc reason="a\\nb" n="(%d)+"', line)


def test_what_a_library_says_is_json_too_with_its_exception(written: Written) -> None:
    logs.configure("json")
    try:
        json.loads("{")
    except ValueError:
        logging.getLogger("rq.worker").exception("It broke: %s", "here")

    (told,) = written.documents
    assert (told["event"], told["message"], told["level"]) == ("log", "It broke: here", "error")
    assert "JSONDecodeError" in str(told["exception"])


def test_a_value_that_runs_on_is_cut(written: Written) -> None:
    logs.configure("auto")
    logs.named("workers").info("retry", reason="x" * 10_000)

    assert len(str(written.documents[0]["reason"])) == 401


def test_a_format_that_there_is_not_is_one_sentence() -> None:
    with pytest.raises(WrongSetting, match="LOG_FORMAT must be one of auto, json, text"):
        LOG_FORMAT.read({"LOG_FORMAT": "xml"})


def test_every_event_is_documented() -> None:
    documented = set(re.findall(r"`(\w+)`", (ROOT / "docs/logs.md").read_text()))
    called = re.compile(r"(?:logger|logs|_told)\.(?:info|warning|error|exception)\(\s*\"(\w+)\"")
    flood = re.compile(r"logs\.Flood\(\"(\w+)\"")
    found = set()
    for room in ("receiver", "workers"):
        for path in (ROOT / room).rglob("*.py"):
            text = path.read_text()
            found |= set(called.findall(text)) | set(flood.findall(text))

    assert len(found) > 20
    assert found - documented == set()


def test_the_ids_of_a_job_are_in_its_lines(deployment: Deployment) -> None:
    batch = deployment.gemini.put_batch(result_line("a"))
    deployment.run("replay", batch)
    work = deployment.run("work", "--burst", LOG_FORMAT="json", RECONCILE_INTERVAL_SECONDS="0")

    lines = [json.loads(line) for line in work.output.splitlines()]
    (committed,) = (line for line in lines if line["event"] == "committed")
    assert committed["batch"] == batch
    assert committed["project"] == "default"
    assert committed["job"] == f"batch-receiver-batch-{batch}"
    assert committed["trigger"] == "replay"
