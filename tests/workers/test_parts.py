"""The splitter: the same parts whatever happened before, and each of them stored before it is told of."""

import hashlib
import json
import multiprocessing
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from types import SimpleNamespace
from typing import Self

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.deployment import contents, result_line
from tests.support.gemini import Gemini as Emulator
from tests.support.story import all_done
from workers import parts
from workers.bucket import layout
from workers.bucket.folder import Folder
from workers.bucket.opening import open_bucket
from workers.bucket.protocol import Bucket
from workers.errors import GeminiUnavailable, Transient
from workers.gemini.access import Access, Secret
from workers.gemini.client import Gemini
from workers.parts import Part
from workers.results.keys import digest
from workers.results.lines import LineCutter
from workers.sources import FileSource, Identity, Opened

BATCH = "abc"
PART_BYTES = 1000


@dataclass
class Content:
    """A source in memory that says of itself what a test wants."""

    data: bytes
    etag: str | None = "v1"
    chunk: int = 7
    ranges: bool = True
    ends_at: int | None = None
    length: int | None = None

    @contextmanager
    def open(self, start: int, known: Identity | None) -> Iterator[Opened]:
        same = known is None or known.etag == self.etag
        begin = min(start, len(self.data)) if self.ranges and same else 0
        length = len(self.data) if self.length is None else self.length
        yield Opened(Identity("files/x", length, self.etag), begin, self._chunks(begin))

    def elsewhere(self) -> Self:
        return self

    def _chunks(self, start: int) -> Iterator[bytes]:
        for at in range(start, len(self.data), self.chunk):
            if self.ends_at is not None and at >= self.ends_at:
                raise GeminiUnavailable("The connection broke.")
            yield self.data[at : at + self.chunk]


@pytest.fixture
def bucket(tmp_path: Path) -> Bucket:
    return open_bucket((tmp_path / "bucket").as_uri(), {})


@pytest.fixture(scope="module")
def another() -> Iterator[Callable[[], Bucket]]:
    """An empty bucket at each call, for examples by the hundred: in memory where there is such a disk."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        yield lambda: open_bucket(Path(mkdtemp(dir=folder)).as_uri(), {})


def split(bucket: Bucket, source: object, part_bytes: int = PART_BYTES) -> list[Part]:
    found = list(parts.split(bucket, BATCH, source, part_bytes))  # type: ignore[arg-type]
    assert [is_whole for _, is_whole in found] == [len(found) == 1] * len(found)
    return [part for part, _ in found]


def raw(bucket: Bucket) -> list[bytes]:
    names = sorted(name for name, _ in bucket.list(f"{BATCH}/raw"))
    return [b"".join(bucket.read(name)) for name in names]


def stored(bucket: Bucket) -> dict[str, bytes]:
    return {name: bucket.get(name) or b"" for name, _ in bucket.list("")}


def naive_cut(data: bytes, part_bytes: int) -> list[bytes]:
    """The rule of the design, held in memory."""
    found, current = [], b""
    for line in data.splitlines(keepends=True) if b"\r" not in data else _by_newline(data):
        current += line
        if len(current) >= part_bytes and line.endswith(b"\n"):
            found.append(current)
            current = b""
    return [*found, current] if current else found


def _by_newline(data: bytes) -> list[bytes]:
    lines = [line + b"\n" for line in data.split(b"\n")]
    lines[-1] = lines[-1][:-1]
    return [line for line in lines if line]


def naive_occurrences(keys: list[str | None]) -> list[int]:
    seen, found = Counter[str](), []
    for key in keys:
        if key:
            seen[key] += 1
        found.append(seen[key] if key else 1)
    return found


LINES = st.lists(
    st.sampled_from(
        [
            *(b'{"key":"%s","response":{}}' % key for key in (b"a", b"b", b"a/b", b"", b"\\u0061")),
            *(b"", b" ", b"\r", b"{}", b"junk", b'{"response":{}}', b'{"key":"long","error":{}}' + b" " * 60),
            b'{"key":"a","error":{}}\r',
            b"\xff",
        ]
    ),
    max_size=30,
)
KEYS = {b"a": "a", b"b": "b", b"a/b": "a/b", b"\\u0061": "a", b"long": "long"}


def key_of(line: bytes) -> str | None:
    return next((KEYS[key] for key in KEYS if line.startswith(b'{"key":"%s"' % key)), None)


@settings(deadline=None, max_examples=60)
@given(LINES, st.booleans(), st.integers(1, 100), st.integers(1, 120))
def test_any_source_is_cut_at_line_ends_by_the_rule_and_nothing_is_lost(
    another: Callable[[], Bucket], lines: list[bytes], ended: bool, chunk: int, part_bytes: int
) -> None:
    data = b"\n".join(lines) + (b"\n" if ended and lines else b"")
    bucket = another()

    found = split(bucket, Content(data, chunk=chunk), part_bytes)

    cut = naive_cut(data, part_bytes)
    assert raw(bucket) == cut
    assert [part.bytes for part in found] == [len(each) for each in cut]
    assert [part.sha256 for part in found] == [hashlib.sha256(each).hexdigest() for each in cut]
    counted = [line for line in lines if line.strip(b" \r")]
    assert sum(part.lines for part in found) == len(counted)
    numbers = [part.occurrences.get(place, 1) for part in found for place in range(part.lines)]
    assert numbers == naive_occurrences([key_of(line) for line in counted])
    whole = parts.read_split(bucket, BATCH)
    assert whole
    assert (whole.lines, whole.raw_bytes) == (len(counted), len(data))
    assert whole.raw_sha256 == hashlib.sha256(data).hexdigest()
    first = 0
    for part in found:
        assert part.first_index == first
        first += part.lines


@pytest.mark.parametrize(
    ("data", "cut"),
    [
        (b"", []),
        (b"\n", [b"\n"]),
        (b"1234\n5678\n", [b"1234\n", b"5678\n"]),  # exactly at the limit
        (b"123\n567\n9\n", [b"123\n567\n", b"9\n"]),  # the first line end after it
        (b"123456789\n1\n", [b"123456789\n", b"1\n"]),
        (b"1234\n", [b"1234\n"]),  # nothing behind a full part: no empty part
        (b"1234\n5", [b"1234\n", b"5"]),
        (b"1234567890", [b"1234567890"]),  # no line end at all
        (b"12345\r\n6", [b"12345\r\n", b"6"]),
        (b"\n\n\n\n\n\n", [b"\n\n\n\n\n", b"\n"]),
    ],
)
@pytest.mark.parametrize("chunk", [1, 2, 3, 5, 100])
def test_a_part_ends_at_the_first_line_end_at_or_after_its_size(
    bucket: Bucket, data: bytes, cut: list[bytes], chunk: int
) -> None:
    split(bucket, Content(data, chunk=chunk), 5)

    assert raw(bucket) == cut


def test_an_empty_source_is_a_split_without_parts(bucket: Bucket) -> None:
    assert split(bucket, Content(b"")) == []

    whole = parts.read_split(bucket, BATCH)
    assert whole
    assert (whole.parts, whole.lines, whole.raw_bytes) == ([], 0, 0)
    assert all_done(bucket, BATCH)


def test_a_part_says_whether_all_of_it_is_utf8(bucket: Bucket) -> None:
    texts = (b"plain", "\u65e5\u672c".encode(), b"\xff", b"\xed\xa0\x80", b"")
    source = Content(b"".join(b'{"key":"k","response":{"text":"%b"}}\n' % text for text in texts))

    found = split(bucket, source, part_bytes=1)

    assert [part.utf8 for part in found] == [True, True, False, False, True]


def test_a_line_above_the_limit_was_never_looked_at(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LineCutter.__init__, "__defaults__", (30,))
    source = Content(b'{"key":"k","response":{}}\n{"key":"k","response":{"long":1}}\n{"key":"k"}\n')

    (part,) = split(bucket, source)

    assert not part.utf8
    assert part.occurrences == {2: 2}


def test_a_part_is_stored_before_it_is_told_of(bucket: Bucket) -> None:
    source = Content(b"".join(result_line(n) for n in range(20)))

    for part, _ in parts.split(bucket, BATCH, source, PART_BYTES):  # type: ignore[arg-type]
        assert parts.read_part(bucket, BATCH, part.number) == part
        assert bucket.size(f"{BATCH}/{layout.raw_part(part.number)}") == part.bytes
        assert parts.read_split(bucket, BATCH) is None

    assert parts.read_split(bucket, BATCH)


def test_the_first_of_several_parts_is_told_of_before_the_next_is_fetched(bucket: Bucket) -> None:
    asked = 0

    @contextmanager
    def opened(start: int, known: Identity | None) -> Iterator[Opened]:
        del start, known
        yield Opened(Identity("files/x", None, None), 0, chunks())

    def chunks() -> Iterator[bytes]:
        nonlocal asked
        for number in range(3):
            asked += 1
            yield b'{"key":"%d","response":{}}\n' % number

    found = parts.split(bucket, BATCH, SimpleNamespace(open=opened), part_bytes=1)  # type: ignore[arg-type]

    for number in range(3):
        part, is_whole = next(found)
        assert (part.number, is_whole) == (number, False)
        assert asked == max(number + 1, 2)  # a byte more than the first, to know that it is not all


def sample() -> bytes:
    """Enough for seven parts, with keys that repeat over them and no line end at the end."""
    return b"\r\n".join(result_line(f"k{n % 9}")[:-1] for n in range(25))


def test_a_source_that_breaks_anywhere_is_split_as_an_undisturbed_one(
    bucket: Bucket, another: Callable[[], Bucket]
) -> None:
    data = sample()
    undisturbed = another()
    expected = split(undisturbed, Content(data))
    assert len(expected) == 7

    for ends_at in range(0, len(data), 271):
        with pytest.raises(GeminiUnavailable):
            split(bucket, Content(data, ends_at=ends_at))

    assert split(bucket, Content(data)) == expected
    assert stored(bucket) == stored(undisturbed)


@pytest.mark.parametrize("ranges", [True, False])
def test_a_split_goes_on_after_every_point_where_it_can_crash(
    ranges: bool, another: Callable[[], Bucket]
) -> None:
    data = sample()
    undisturbed = another()
    expected = split(undisturbed, Content(data))
    whole = stored(undisturbed)
    order = [layout.source(BATCH)]
    for part in expected:
        order += [f"{BATCH}/{layout.raw_part(part.number)}"]
        order += [layout.part_keys(BATCH, part.number), layout.part(BATCH, part.number)]
    order.append(layout.split(BATCH))
    assert sorted(order) == sorted(whole)

    for crash in range(len(order) + 1):
        bucket = another()
        for name in whole:
            bucket.delete([name])
        for name in order[:crash]:
            bucket.put(name, whole[name], layout.BYTES)

        assert split(bucket, Content(data, ranges=ranges)) == expected
        assert stored(bucket) == whole


def _split_and_die(url: str, gemini: str, key: str, file: str, stored_parts: int) -> None:
    source = FileSource(Gemini(Access(gemini, Secret(key))), file)
    for count, _ in enumerate(parts.split(open_bucket(url, {}), BATCH, source, 200_000), start=1):
        if count == stored_parts:
            os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_process_is_followed_by_one_that_fetches_only_what_is_missing(
    gemini: Emulator, tmp_path: Path
) -> None:
    data = b"".join(result_line(f"k{n % 900}", "x" * 1000) for n in range(1000))
    client = Gemini(Access(gemini.url, Secret(gemini.api_key)))
    file = client.batch(gemini.put_batch(data)).result_file
    assert file
    killed, undisturbed = tmp_path / "killed", tmp_path / "undisturbed"
    expected = split(open_bucket(undisturbed.as_uri(), {}), FileSource(client, file), 200_000)
    arguments = (killed.as_uri(), gemini.url, gemini.api_key, file, 3)

    process = multiprocessing.get_context("spawn").Process(target=_split_and_die, args=arguments)
    process.start()
    process.join(30)

    assert process.exitcode == -signal.SIGKILL
    assert split(open_bucket(killed.as_uri(), {}), FileSource(client, file), 200_000) == expected
    assert contents(killed) == contents(undisturbed)
    begin = sum(part.bytes for part in expected[:3]) - 1
    assert gemini.requests(":download")[-1]["range"] == f"bytes={begin}-"
    client.close()


def test_a_finished_split_is_found_again_without_storing_anything(bucket: Bucket, tmp_path: Path) -> None:
    data = sample()
    expected = split(bucket, Content(data))
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "bucket/abc").rglob("*.jsonl")}

    assert split(bucket, Content(data)) == expected

    assert {path: path.stat().st_mtime_ns for path in times} == times


@pytest.mark.parametrize("same_size", [True, False])
def test_a_source_that_is_another_by_now_starts_over(
    bucket: Bucket, same_size: bool, another: Callable[[], Bucket]
) -> None:
    old = sample()
    new = (old if same_size else old[: len(old) // 2]).replace(b"answer", b"ANSWER")
    split(bucket, Content(old, etag="v1"))
    bucket.put(layout.done(BATCH, 0, "0" * 64), b"{}", layout.JSON)
    undisturbed = another()

    assert split(bucket, Content(new, etag="v2")) == split(undisturbed, Content(new, etag="v2"))

    bucket.delete([layout.strays(BATCH)])
    assert stored(bucket) == stored(undisturbed)


def test_the_plan_stays_when_a_source_starts_over(bucket: Bucket) -> None:
    split(bucket, Content(sample(), etag="v1"))
    bucket.put(layout.plan(BATCH), b"{}", layout.JSON)

    split(bucket, Content(sample(), etag="v2"))

    assert bucket.get(layout.plan(BATCH)) == b"{}"


def test_a_removal_that_was_cut_short_is_done_again(bucket: Bucket, another: Callable[[], Bucket]) -> None:
    split(bucket, Content(sample(), etag="v1"))
    bucket.delete([layout.part(BATCH, 1), layout.split(BATCH), f"{BATCH}/{layout.raw_part(0)}"])
    undisturbed = another()
    expected = split(undisturbed, Content(sample()[:1500], etag="v2"))

    assert split(bucket, Content(sample()[:1500], etag="v2")) == expected

    bucket.delete([layout.strays(BATCH)])
    assert stored(bucket) == stored(undisturbed)


def test_another_file_that_is_sent_from_the_middle_is_fetched_anew(bucket: Bucket) -> None:
    split(bucket, Content(sample(), etag=None))
    longer = sample() + b"\r\n" + sample()

    with pytest.raises(Transient, match="anew"):
        split(bucket, Content(longer, etag=None))
    split(bucket, Content(longer, etag=None))

    assert b"".join(raw(bucket)) == longer


def test_a_cut_that_was_begun_is_kept_when_the_setting_changes(
    bucket: Bucket, another: Callable[[], Bucket]
) -> None:
    undisturbed = another()
    expected = split(undisturbed, Content(sample()), PART_BYTES)
    with pytest.raises(GeminiUnavailable):
        split(bucket, Content(sample(), ends_at=2500), PART_BYTES)

    assert split(bucket, Content(sample()), PART_BYTES * 3) == expected
    assert stored(bucket) == stored(undisturbed)


def test_missing_keys_of_a_stored_part_are_said_and_made_good_by_another_look(bucket: Bucket) -> None:
    expected = split(bucket, Content(sample()))
    whole = stored(bucket)
    bucket.delete([layout.part_keys(BATCH, 1)])

    with pytest.raises(Transient, match=r"keys/00001\.bin is missing"):
        split(bucket, Content(sample()))

    assert split(bucket, Content(sample())) == expected
    assert stored(bucket) == whole


def test_the_keys_of_a_part_are_kept_for_a_restart(bucket: Bucket) -> None:
    split(bucket, Content(b'{"key":"a","response":{}}\n\n{"response":{}}\n{"key":7,"error":{}}'), PART_BYTES)

    assert bucket.get(layout.part_keys(BATCH, 0)) == digest("a") + bytes(16) + digest("7")


def test_a_batch_is_done_when_it_is_wholly_split_and_every_part_is(bucket: Bucket) -> None:
    assert not all_done(bucket, BATCH)
    found = split(bucket, Content(sample()))

    for part in found:
        assert not all_done(bucket, BATCH)
        bucket.put(layout.done(BATCH, part.number, part.sha256), b"{}", layout.JSON)

    assert all_done(bucket, BATCH)
    bucket.delete([layout.split(BATCH)])
    assert not all_done(bucket, BATCH)


def test_a_part_that_was_done_of_another_content_does_not_count(bucket: Bucket) -> None:
    (part,) = split(bucket, Content(b"{}\n"))
    bucket.put(layout.done(BATCH, 0, hashlib.sha256(b"other").hexdigest()), b"{}", layout.JSON)

    assert part.number == 0
    assert not all_done(bucket, BATCH)


def test_what_is_not_stored_is_none(bucket: Bucket) -> None:
    assert parts.read_split(bucket, BATCH) is None
    assert parts.read_part(bucket, BATCH, 0) is None


def test_what_a_restart_needs_says_where_the_source_stood(bucket: Bucket) -> None:
    split(bucket, Content(sample()))

    assert json.loads(bucket.get(layout.source(BATCH)) or b"") == {
        "identity": {"file": "files/x", "length": len(sample()), "etag": "v1"},
        "part_bytes": PART_BYTES,
    }


class CaseIgnoringFolder(Folder):
    """As on macOS and Windows; no file system of that kind is at hand."""

    @property
    def ignores_case(self) -> bool:
        return True


def test_where_a_folder_ignores_case_keys_that_differ_only_in_it_count_as_repeated(tmp_path: Path) -> None:
    lines = [result_line(key) for key in ("Key", "key", "other", "KEY")]

    (part,) = split(CaseIgnoringFolder((tmp_path / "folder").as_uri()), Content(b"".join(lines)))

    assert part.occurrences == {1: 2, 3: 3}
