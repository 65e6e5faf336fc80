"""A creation whose answer was lost, and a batch of it that turns up late: one batch, which the record names."""

from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Thread, Timer
from typing import Any

import pytest

from sender.check import Check
from sender.pieces import Span, prepared
from sender.record import Options, Record
from sender.remote import Remote
from sender.submission import Said, Submission
from tests.sender.conftest import MODEL, Sender, request_line, write_lines
from workers.errors import GeminiUnavailable
from workers.gemini.access import Access, Secret
from workers.gemini.client import Gemini

SETTLE = 2.0


@contextmanager
def submission(sender: Sender, path: Path, *, inline: bool) -> Iterator[Submission]:
    access = Access(sender.gemini.url, Secret(sender.gemini.api_key))
    with (
        closing(Gemini(access)) as gemini,
        prepared(path, [Span(0, path.stat().st_size)], Check(), lambda _: None) as (piece,),
    ):
        options = Options(model=MODEL, inline=inline)
        yield Submission(Remote(gemini), sender.bucket, piece, options, path.stem, settle=SETTLE)


def submitted(sender: Sender, path: Path, *, inline: bool) -> tuple[Record, list[str]]:
    """What became of it, and what was said."""
    said: list[str] = []
    with submission(sender, path, inline=inline) as each:
        each.said = Said(waits=said.append)
        return each.run(), said


def one_batch(sender: Sender, record: Record) -> None:
    """There is one batch and no other, which the record names, and it is at work."""
    sender.gemini.clear_faults()
    assert [each["name"] for each in sender.batches()] == [f"batches/{record.batch}"]
    assert sender.batches()[0]["state"] in {"BATCH_STATE_PENDING", "BATCH_STATE_RUNNING"}
    assert sender.record()["batch"] == record.batch
    assert sender.record()["creating_at"] is None


@pytest.fixture
def path(sender: Sender, tmp_path: Path) -> Path:
    sender.gemini.set(batch_seconds=600)
    return write_lines(tmp_path / "r.jsonl", [request_line("a"), request_line("b")])


@pytest.mark.slow
@pytest.mark.parametrize("inline", [False, True], ids=["file", "inline"])
@pytest.mark.parametrize("lag", [0.0, 0.5, 1.0, 1.5, 2.0])
def test_a_batch_that_the_list_shows_late_is_the_only_one(
    sender: Sender, path: Path, lag: float, inline: bool
) -> None:
    """`lag`: how late, in settles."""
    sender.gemini.fault("lost", ":batchGenerateContent", value=503)
    sender.gemini.fault("late_listed", "GET /v1beta/batches", times=0, value=lag * SETTLE * 0.9)

    record, _ = submitted(sender, path, inline=inline)

    one_batch(sender, record)


class OnItsWay(Remote):
    """The first creation is on its way for so many seconds after its connection broke."""

    def __init__(self, gemini: Gemini, seconds: float) -> None:
        super().__init__(gemini)
        self.seconds = seconds
        self.late: list[Thread] = []

    def create(self, model: str, job: dict[str, Any] | bytes, *, embeddings: bool) -> str:
        if self.late:
            return super().create(model, job, embeddings=embeddings)
        self.late.append(
            Timer(self.seconds, lambda: super(OnItsWay, self).create(model, job, embeddings=embeddings))
        )
        self.late[0].start()
        raise GeminiUnavailable("The connection broke.")


@pytest.mark.slow
@pytest.mark.parametrize("inline", [False, True], ids=["file", "inline"])
@pytest.mark.parametrize(("seconds", "creations"), [(0.2, 1), (0.6, 1), (1.4, 2), (2.0, 2), (2.6, 2)])
def test_a_creation_that_is_taken_up_late_makes_the_only_batch(
    sender: Sender, path: Path, seconds: float, creations: int, inline: bool
) -> None:
    """`seconds`: how long after its connection broke, in settles."""
    with submission(sender, path, inline=inline) as each:
        remote = each.remote = OnItsWay(each.remote.gemini, seconds * SETTLE)
        record = each.run()
        remote.late[0].join()

    assert len(sender.gemini.requests(":batchGenerateContent")) == creations
    one_batch(sender, record)


def test_of_two_that_turn_up_the_first_is_kept_and_the_other_one_is_named(sender: Sender, path: Path) -> None:
    sender.gemini.fault("lost", ":batchGenerateContent", value=503)
    sender.gemini.fault("late_listed", "GET /v1beta/batches", times=0, value=SETTLE * 1.5)

    record, said = submitted(sender, path, inline=False)

    created = [each for each in sender.gemini.requests(":batchGenerateContent") if each["method"] == "POST"]
    assert len(created) == 2
    removed = [each["path"] for each in sender.gemini.requests(":cancel")]
    assert len(removed) == 1
    (told,) = [each for each in said if "cancelled" in each]
    assert removed[0].removeprefix("/v1beta/").removesuffix(":cancel") in told
    one_batch(sender, record)


def test_where_both_answers_are_lost_it_ends_with_one(sender: Sender, path: Path) -> None:
    sender.gemini.fault("lost", ":batchGenerateContent", times=2, value=503)
    sender.gemini.fault("late_listed", "GET /v1beta/batches", times=0, value=SETTLE * 1.5)

    record, _ = submitted(sender, path, inline=False)

    assert Counter(each["method"] for each in sender.gemini.requests(":batchGenerateContent"))["POST"] == 2
    one_batch(sender, record)
