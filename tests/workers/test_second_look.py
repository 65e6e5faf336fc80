"""A 200 that brought no results, or not all: what is asked for once more, where, and what is believed in the end."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.deployment import result_line
from tests.support.gemini import API_KEY
from tests.support.gemini import Gemini as Emulator
from workers.bucket.opening import open_bucket
from workers.contract import Announced, Trigger
from workers.errors import Transient
from workers.gemini.access import Access, Secret
from workers.gemini.client import Gemini
from workers.process import Result, Tools, process
from workers.summary import Summary, read_summary

LINES = b"".join(result_line(f"k{number}") for number in range(20))
FIRST, SECOND = "GET /download/", "GET /v1beta/files/"
HERE = Announced(frozenset({Trigger.PROCESS}), 1, None)
AGAIN = Announced(frozenset({Trigger.REPLAY}), 1, None, refetch=True)


@pytest.fixture
def tools(gemini: Emulator, tmp_path: Path) -> Iterator[Tools]:
    client = Gemini(Access(gemini.url, Secret(API_KEY)))
    yield Tools(client, open_bucket((tmp_path / "bucket").as_uri(), {}), frozenset({"objects"}), 1 << 20)
    client.close()


class _Nowhere:
    def __getattr__(self, name: str) -> Any:
        raise AssertionError(name)


def _look(tools: Tools, batch: str, said: Announced = HERE, *, tries: int = 3) -> Summary:
    """Process until it is committed, at most so many times."""
    for left in reversed(range(tries)):
        try:
            process(tools, _Nowhere(), batch, said)
        except Transient:
            if not left:
                raise
        else:
            break
    summary = read_summary(tools.bucket, batch)
    assert summary
    return summary


@pytest.mark.parametrize("kind", ["page", "empty", "short", "gzip"])
def test_what_one_address_sends_wrong_for_good_is_taken_from_the_other(
    gemini: Emulator, tools: Tools, kind: str
) -> None:
    gemini.fault(kind, FIRST, times=0, value=1 if kind == "gzip" else 40)
    summary = _look(tools, gemini.put_batch(LINES), tries=2)
    assert (summary.counts.succeeded, summary.warnings) == (20, [])


@pytest.mark.parametrize("kind", ["page", "empty", "short"])
def test_what_both_send_wrong_once_heals(gemini: Emulator, tools: Tools, kind: str) -> None:
    gemini.fault(kind, ":download", value=40, times=1)
    summary = _look(tools, gemini.put_batch(LINES))
    assert (summary.counts.succeeded, summary.warnings) == (20, [])


@pytest.mark.parametrize("kind", ["page", "empty", "short"])
def test_what_both_send_alike_is_committed_with_a_warning(gemini: Emulator, tools: Tools, kind: str) -> None:
    gemini.fault(kind, ":download", value=40, times=0)
    batch = gemini.put_batch(LINES)
    summary = _look(tools, batch, tries=1)
    assert any("Gemini counts 20 " in warning for warning in summary.warnings)
    assert any("replay --refetch" in warning for warning in summary.warnings)

    gemini.clear_faults()
    assert _look(tools, batch, AGAIN).counts.succeeded == 20


def test_results_that_are_fewer_than_counted_are_committed_though_the_other_address_sends_a_page(
    gemini: Emulator, tools: Tools
) -> None:
    gemini.fault("page", SECOND, times=0)
    summary = _look(tools, gemini.put_batch(LINES, stats={"requestCount": "21"}), tries=1)
    assert summary.counts.total == 20
    assert summary.warnings[0].startswith("Gemini counts 21 requests, the results hold 20.")


def test_a_committed_page_is_replaced_on_request_by_what_the_other_address_has_by_now(
    gemini: Emulator, tools: Tools
) -> None:
    gemini.fault("page", ":download", times=0)
    batch = gemini.put_batch(LINES)
    assert _look(tools, batch, tries=1).counts.succeeded == 0

    assert process(tools, _Nowhere(), batch, AGAIN) is Result.ALREADY_COMMITTED
    gemini.clear_faults()
    gemini.fault("page", FIRST, times=0)
    summary = _look(tools, batch, AGAIN, tries=1)
    assert (summary.revision, summary.counts.succeeded, summary.warnings) == (2, 20, [])


def test_nothing_is_asked_for_twice_that_looks_whole(gemini: Emulator, tools: Tools) -> None:
    _look(tools, gemini.put_batch(LINES), tries=1)
    assert len(gemini.requests(":download")) == 1
