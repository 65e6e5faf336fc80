"""Whatever is cut or killed while a file is submitted: exactly one batch exists afterwards, and the record names it."""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from sender import upload
from sender.check import Check
from sender.pieces import Span, prepared
from sender.record import Options, Record
from sender.remote import Remote
from sender.submission import Submission
from tests.sender.conftest import MODEL, Sender, request_line, write_lines
from tests.support.cutting import Cut, Cutting, cutting
from tests.workers.gemini.asking import traced
from workers.bucket.protocol import Bucket
from workers.errors import Incomplete, WorkerError
from workers.gemini.access import Access, Secret
from workers.gemini.client import Gemini

_TRIES = 5
_AT_A_TIME = 12
_SETTLE = 0.4


def submit(remote: Remote, bucket: Bucket, path: Path, *, inline: bool, settle: float = _SETTLE) -> Record:
    options = Options(model=MODEL, inline=inline)
    with prepared(path, [Span(0, path.stat().st_size)], Check(), lambda _: None) as (piece,):
        return Submission(remote, bucket, piece, options, path.stem, settle=settle).run()


def submitted(sender: Sender, url: str, path: Path, *, inline: bool = False) -> Record:
    """A file submitted, as often as it takes."""
    with closing(Gemini(Access(url, Secret(sender.gemini.api_key)))) as gemini:
        for _ in range(_TRIES):
            try:
                return submit(Remote(gemini), sender.bucket, path, inline=inline)
            except WorkerError:
                continue
    raise AssertionError(f"{path.name} is no batch after {_TRIES} tries")


class CutOnce:
    """Breaks one request of each file, which its bytes name, at a place of its own."""

    def __init__(self, match: str, places: dict[str, Cut]) -> None:
        self._match = match
        self._left = dict(places)

    def __call__(self, line: str, request: bytes) -> Cut | None:
        if self._match not in line:
            return None
        named = next((name for name in self._left if name.encode() in request), None)
        return self._left.pop(named) if named else None


def sizes(sender: Sender, between: Cutting, tmp_path: Path, match: str, *, inline: bool) -> tuple[int, int]:
    """How long the request that is to be cut is, and its answer."""
    path = write_lines(tmp_path / "file-0000.jsonl", [request_line("file-0000")])
    submitted(sender, between.url, path, inline=inline)
    (found,) = (size for line, size in between.sizes.items() if match in line)
    return found


def places(asked: int, answered: int, step: int) -> Iterator[Cut]:
    """Cuts in a request and its answer, the borders among them."""
    yield from (Cut(asked=at) for at in sorted({*range(0, asked, step), asked - 1}))
    yield from (Cut(answered=at) for at in sorted({*range(0, answered, step), answered - 1}))


def cut_everywhere(sender: Sender, tmp_path: Path, match: str, step: int, *, inline: bool = False) -> None:
    """Submit a file for each place where its `match` request is cut."""
    with cutting(sender.gemini.url) as between:
        asked, answered = sizes(sender, between, tmp_path, match, inline=inline)
        cuts = {f"file-{at:04d}": cut for at, cut in enumerate(places(asked, answered, step), start=1)}
        between.cut = CutOnce(match, cuts)
        paths = [write_lines(tmp_path / f"{name}.jsonl", [request_line(name)]) for name in cuts]
        with ThreadPoolExecutor(_AT_A_TIME) as threads:
            done = list(threads.map(lambda path: submitted(sender, between.url, path, inline=inline), paths))
    names = Counter(
        each["displayName"].rpartition("-")[0] if inline else each["displayName"] for each in sender.batches()
    )
    assert names == dict.fromkeys(["file-0000", *cuts], 1)
    assert {f"batches/{each.batch}" for each in done} <= {each["name"] for each in sender.batches()}
    stored = {each["batch"] for each in sender.records()}
    assert len(stored) == len(cuts) + 1
    assert {f"batches/{batch}" for batch in stored} == {each["name"] for each in sender.batches()}


@pytest.mark.parametrize("inline", [False, True], ids=["file", "inline"])
def test_a_creation_cut_anywhere_makes_one_batch(sender: Sender, tmp_path: Path, inline: bool) -> None:
    cut_everywhere(sender, tmp_path, ":batchGenerateContent", 40, inline=inline)


@pytest.mark.exhaustive
@pytest.mark.timeout(900)
@pytest.mark.parametrize("inline", [False, True], ids=["file", "inline"])
def test_a_creation_cut_at_every_byte_makes_one_batch(sender: Sender, tmp_path: Path, inline: bool) -> None:
    cut_everywhere(sender, tmp_path, ":batchGenerateContent", 1, inline=inline)


@pytest.mark.exhaustive
@pytest.mark.timeout(900)
@pytest.mark.parametrize("match", ["upload_id", "POST /upload/v1beta/files HTTP"])
def test_an_upload_cut_at_every_byte_makes_one_batch(sender: Sender, tmp_path: Path, match: str) -> None:
    cut_everywhere(sender, tmp_path, match, 1)


@pytest.mark.parametrize("where", [Cut(asked=0), Cut(asked=300_000), Cut(asked=262_500), Cut(answered=5)])
@pytest.mark.parametrize("chunk", [0, 1, 3])
def test_an_upload_goes_on_where_it_broke_off(
    sender: Sender, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int, where: Cut
) -> None:
    monkeypatch.setattr(upload, "CHUNK_BYTES", 512 << 10)
    lines = [request_line(f"k{number}", "x" * 900) for number in range(2000)]
    path = write_lines(tmp_path / "r.jsonl", lines)
    seen = 0

    def cut(line: str, _request: bytes) -> Cut | None:
        nonlocal seen
        if "upload_id" not in line:
            return None
        seen += 1
        return where if seen == chunk + 1 else None

    with cutting(sender.gemini.url) as between:
        between.cut = cut
        record = submitted(sender, between.url, path)

    (file,) = sender.files()
    assert file["sizeBytes"] == str(path.stat().st_size)
    assert (record.upload_file, record.uploads) == (file["name"].removeprefix("files/"), 1)
    assert len(sender.batches()) == 1


def test_an_upload_takes_no_memory_that_grows_with_the_file(sender: Sender, tmp_path: Path) -> None:
    path = write_lines(
        tmp_path / "r.jsonl", (request_line(f"k{number}", "x" * 100_000) for number in range(480))
    )

    with traced() as memory:
        submitted(sender, sender.gemini.url, path)
        _, peak = memory()

    assert path.stat().st_size > 45 << 20
    assert peak < upload.CHUNK_BYTES


def test_of_a_file_that_changed_while_it_was_uploaded_no_batch_is_made(
    sender: Sender, tmp_path: Path
) -> None:
    path = write_lines(tmp_path / "r.jsonl", [request_line("a")])
    changed = path.read_bytes().replace(b"blue", b"pink")

    def change(line: str, _request: bytes) -> Cut | None:
        if "POST /upload/v1beta/files HTTP" in line:
            path.write_bytes(changed)
        return None

    with (
        cutting(sender.gemini.url) as between,
        closing(Gemini(Access(between.url, Secret(sender.gemini.api_key)))) as gemini,
    ):
        between.cut = change
        with pytest.raises(Incomplete, match="was it changed"):
            submit(Remote(gemini), sender.bucket, path, inline=False)

    assert sender.batches() == []


class Killed:
    """Ends the process, at once, at its step of this number: before or after it."""

    def __init__(self, step: int, *, after: bool) -> None:
        self._step = step
        self._after = after
        self._count = 0

    def counted(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def counting(*arguments: Any, **named: Any) -> Any:
            self._count += 1
            mine = self._count == self._step
            if mine and not self._after:
                os._exit(9)
            result = call(*arguments, **named)
            if mine:
                os._exit(9)
            return result

        return counting


class CountedBucket:
    def __init__(self, bucket: Bucket, killed: Killed) -> None:
        self._bucket = bucket
        self._killed = killed

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._bucket, name)
        return self._killed.counted(found) if callable(found) else found


def in_a_process(run: Callable[[], None]) -> int:
    """Run it in a child; its exit code."""
    child = os.fork()
    if not child:
        try:
            run()
            os._exit(0)
        except BaseException:  # noqa: BLE001 - nothing may come back from here
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("inline", [False, True], ids=["file", "inline"])
def test_killed_at_any_step_and_run_again_it_makes_one_batch(
    sender: Sender, tmp_path: Path, inline: bool, after: bool
) -> None:
    def run(path: Path, step: int) -> None:
        with closing(Gemini(Access(sender.gemini.url, Secret(sender.gemini.api_key)))) as gemini:
            remote, killed = Remote(gemini), Killed(step, after=after)
            gemini.http.exchange = killed.counted(gemini.http.exchange)  # type: ignore[method-assign]
            bucket: Any = CountedBucket(sender.bucket, killed)
            submit(remote, bucket, path, inline=inline, settle=1.0)

    steps = 0
    while True:
        steps += 1
        path = write_lines(tmp_path / f"step{steps:02d}.jsonl", [request_line(f"step {steps}")])
        first = in_a_process(lambda path=path, steps=steps: run(path, steps))  # type: ignore[misc]
        again = in_a_process(lambda path=path: run(path, 0))  # type: ignore[misc]
        assert first in {0, 9}, steps
        assert again == (0 if first == 9 else 1) or (first == 9 and again == 1), steps
        if first == 0:
            break
    assert steps > (8 if inline else 12)
    names = Counter(each["displayName"][:6] for each in sender.batches())
    assert names == {f"step{number:02d}": 1 for number in range(1, steps + 1)}
    records = sender.records()
    assert {each["state"] for each in records} == {"created"}
    assert {f"batches/{each['batch']}" for each in records} == {each["name"] for each in sender.batches()}
    pointed = {path.stem for path in (sender.folder / "_submitted/by-batch").glob("*.json")}
    assert pointed == {each["batch"] for each in records}
