"""What strangers can cause is written once an interval, whatever they send."""

import asyncio
import logging

import pytest

from receiver.logs import Flood


def test_a_flood_is_counted_by_reason_the_commonest_first(caplog: pytest.LogCaptureFixture) -> None:
    async def note() -> None:
        flood = Flood("refused", interval_seconds=0.05)
        flood.note("first")
        for reason in ("rare", "common", "common"):
            flood.note(reason)
        await asyncio.sleep(0.2)

    asyncio.run(note())
    assert [record.message for record in caplog.records] == [
        "event=refused count=1 reason=first",
        'event=refused count=3 reasons="common: 2, rare: 1"',
    ]


def test_more_reasons_than_anybody_reads_are_others(caplog: pytest.LogCaptureFixture) -> None:
    async def note() -> None:
        flood = Flood("not_found", logging.WARNING, interval_seconds=0.05)
        for number in range(1000):
            flood.note(f"GET /{number}")
        await asyncio.sleep(0.2)

    asyncio.run(note())
    assert len(caplog.records) == 2
    last = caplog.records[1].message
    assert "count=999" in last
    assert "other: 991" in last
    assert len(last) < 500
