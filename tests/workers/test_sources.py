"""Sources of raw lines: the same bytes whatever the connection does, and one line for each inline element."""

import dataclasses
import gzip
import json
import random
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.deployment import result_line
from tests.support.gemini import Gemini as Emulator
from tests.support.scripted import Answer, Asked, Scripted, scripted
from workers import sources
from workers.errors import GeminiUnavailable, ResultsGone, TooSlow
from workers.gemini.access import Access, Secret
from workers.gemini.batches import parse_batch
from workers.gemini.client import Gemini
from workers.gemini.http import Limits
from workers.sources import FileSource, Identity, InlineSource, source_of

CONTENT = b"".join(result_line(n) for n in range(200))


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "_RECONNECT_SECONDS", 0.0)


@pytest.fixture
def emulated(gemini: Emulator) -> Iterator[FileSource]:
    """A result file of the emulator that holds `CONTENT`."""
    client = Gemini(Access(gemini.url, Secret(gemini.api_key)))
    file = client.batch(gemini.put_batch(CONTENT)).result_file
    assert file
    yield FileSource(client, file)
    client.close()


@pytest.fixture
def server() -> Iterator[Scripted]:
    with scripted() as server:
        yield server


@pytest.fixture
def source(server: Scripted) -> Iterator[FileSource]:
    client = Gemini(Access(server.url, Secret("key")))
    yield FileSource(client, "files/batch-abc")
    client.close()


def inline(*elements: bytes) -> InlineSource:
    return InlineSource([msgspec.Raw(element) for element in elements])


def read(source: FileSource | InlineSource, start: int = 0, known: Identity | None = None) -> bytes:
    with source.open(start, known) as opened:
        return b"".join(opened.chunks)


def ranged(content: bytes, etag: str = '"v1"', cut: int | None = None) -> Callable[[Asked], Answer]:
    """A server of one file that knows ranges; `cut`: each answer ends after so many bytes."""

    def answer(asked: Asked) -> Answer:
        start = int(asked.headers.get("range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        if asked.headers.get("if-range", etag) != etag:
            start = 0
        headers = {"ETag": etag}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        return Answer(206 if start else 200, content[start:], headers, cut)

    return answer


def test_a_file_is_read_and_told_apart_by_its_name_length_and_etag(emulated: FileSource) -> None:
    with emulated.open(0, None) as opened:
        assert (opened.identity.file, opened.identity.length) == (emulated.file, len(CONTENT))
        assert opened.identity.etag
        assert opened.start == 0
        assert b"".join(opened.chunks) == CONTENT


def test_a_file_that_is_still_the_same_goes_on_where_it_was(emulated: FileSource) -> None:
    with emulated.open(0, None) as opened:
        known = opened.identity

    with emulated.open(1000, known) as opened:
        assert (opened.identity, opened.start) == (known, 1000)
        assert b"".join(opened.chunks) == CONTENT[1000:]


def test_a_file_that_is_another_by_now_begins_at_its_beginning(
    gemini: Emulator, emulated: FileSource
) -> None:
    with emulated.open(0, None) as opened:
        known = opened.identity
    gemini.put_batch(CONTENT[::-1], batch_id=emulated.file.removeprefix("files/batch-"))

    with emulated.open(1000, known) as opened:
        assert opened.identity != known
        assert opened.start == 0
        assert b"".join(opened.chunks) == CONTENT[::-1]


def test_a_connection_that_breaks_goes_on_at_the_same_byte(gemini: Emulator, emulated: FileSource) -> None:
    gemini.fault("cut", times=4, value=7001)

    assert read(emulated) == CONTENT

    ranges = [asked["range"] for asked in gemini.requests(":download")]
    assert len(ranges) == 5
    assert ranges[0] is None
    assert all(ranges[1:])


def test_a_connection_that_breaks_at_a_server_without_ranges_is_read_again_up_to_that_byte(
    gemini: Emulator, emulated: FileSource
) -> None:
    gemini.fault("cut", times=1, value=7001)
    gemini.fault("ignore_range", times=0)

    assert read(emulated) == CONTENT


def test_trouble_while_reconnecting_is_not_healed_here(gemini: Emulator, emulated: FileSource) -> None:
    gemini.fault("cut", times=1, value=7001)
    with emulated.open(0, None) as opened:
        next(opened.chunks)
        gemini.expire_output(emulated.file.removeprefix("files/batch-"))
        with pytest.raises(ResultsGone):
            list(opened.chunks)


def test_a_connection_that_breaks_at_once_every_time_is_given_up(
    server: Scripted, source: FileSource
) -> None:
    server.answer = lambda _: Answer(body=b"x" * 100, cut=0)

    with pytest.raises(GeminiUnavailable):
        read(source)

    assert len(server.asked) == 6


def test_a_connection_that_makes_progress_is_not_given_up(server: Scripted, source: FileSource) -> None:
    server.answer = ranged(bytes(range(100)), cut=5)

    assert read(source) == bytes(range(100))


def packed(content: bytes, cut: int | None = None, *, ranges: bool = True) -> Callable[[Asked], Answer]:
    """A server that sends a file compressed whatever is asked for, and counts ranges in compressed bytes."""
    body = gzip.compress(content, mtime=0)

    def answer(asked: Asked) -> Answer:
        headers = {"ETag": '"v1"', "Content-Encoding": "gzip"}
        start = int(asked.headers.get("range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        if not ranges or not start:
            return Answer(200, body, headers, cut)
        if start >= len(body):
            return Answer(416, headers={"Content-Range": f"bytes */{len(body)}"})
        headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        return Answer(206, body[start:], headers, cut)

    return answer


@pytest.mark.parametrize("ranges", [False, True])
def test_a_file_that_comes_compressed_is_the_same_file(
    server: Scripted, source: FileSource, ranges: bool
) -> None:
    server.answer = packed(CONTENT, ranges=ranges)

    with source.open(0, None) as opened:
        known = opened.identity
        assert (known.length, known.etag, opened.start) == (None, '"v1"', 0)
        assert b"".join(opened.chunks) == CONTENT
    for start in (10, 1000, len(CONTENT) - 1):
        with source.open(start, known) as opened:
            assert opened.identity.may_be(known)
            assert b"".join(opened.chunks) == CONTENT[opened.start :]
            assert opened.start <= start


def test_a_compressed_file_that_breaks_off_is_read_from_its_beginning_up_to_that_byte(
    server: Scripted, source: FileSource
) -> None:
    content = random.Random(7).randbytes(1_000_000)

    def answer(asked: Asked) -> Answer:
        return packed(content, 700_000 if len(server.asked) < 3 else None)(asked)

    server.answer = answer

    assert read(source) == content
    assert [asked.headers.get("range") for asked in server.asked] == [None, None, None]


def test_a_file_that_is_shorter_than_what_is_known_of_it_is_read_anew(
    server: Scripted, source: FileSource
) -> None:
    def answer(asked: Asked) -> Answer:
        if "range" in asked.headers:
            return Answer(416, headers={"Content-Range": "bytes */4"})
        return Answer(body=b"0123")

    server.answer = answer

    with source.open(6, Identity(source.file, None, None)) as opened:
        assert (opened.start, opened.identity.length) == (0, 4)
        assert b"".join(opened.chunks) == b"0123"


def test_a_trickle_is_given_up_also_where_every_connection_brings_some_of_it(server: Scripted) -> None:
    client = Gemini(Access(server.url, Secret("key")), Limits(least_rate=10_000, rate_seconds=0.3))
    source = FileSource(client, "files/batch-abc")
    begun = time.monotonic()

    for answer in (
        lambda asked: dataclasses.replace(ranged(CONTENT, cut=2)(asked), drip=0.01),
        lambda asked: dataclasses.replace(ranged(CONTENT)(asked), drip=0.01),
    ):
        server.answer = answer
        with pytest.raises(TooSlow):
            read(source)

    assert time.monotonic() - begun < 10
    client.close()


def test_a_file_that_changes_while_it_is_downloaded_is_not_mixed(
    server: Scripted, source: FileSource
) -> None:
    def answer(asked: Asked) -> Answer:
        first = len(server.asked) == 1
        return ranged(b"a" * 100 if first else b"b" * 100, '"1"' if first else '"2"', 50 if first else None)(
            asked
        )

    server.answer = answer

    got = b""
    with source.open(0, None) as opened, pytest.raises(GeminiUnavailable, match="changed"):  # noqa: PT012
        for chunk in opened.chunks:
            got += chunk
    assert b"b" not in got


def test_a_piece_that_begins_too_late_is_not_taken(server: Scripted, source: FileSource) -> None:
    def answer(_: Asked) -> Answer:
        if len(server.asked) == 1:
            return Answer(body=b"0123456789", cut=4)
        return Answer(206, b"6789", {"Content-Range": "bytes 6-9/10"})

    server.answer = answer

    with pytest.raises(GeminiUnavailable):
        read(source)


def test_a_file_that_is_streamed_without_a_length_goes_on_too(server: Scripted, source: FileSource) -> None:
    def answer(asked: Asked) -> Answer:
        if len(server.asked) == 1:
            return Answer(body=b"0123456789", headers={"ETag": '"v1"'}, cut=4, chunked=True)
        return ranged(b"0123456789")(asked)

    server.answer = answer

    assert read(source) == b"0123456789"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (Identity("f", 1, "e"), Identity("f", 1, "e"), True),
        (Identity("f", None, "e"), Identity("f", 1, "e"), True),
        (Identity("f", None, None), Identity("f", None, None), True),
        (Identity("f", 1, "e"), Identity("f", 2, "e"), False),
        (Identity("f", 1, "e"), Identity("f", 1, "d"), False),
        (Identity("f", 1, "e"), Identity("f", 1, None), False),
        (Identity("f", 1, "e"), Identity("g", 1, "e"), False),
        (Identity(None, 1, "e"), Identity("f", 1, "e"), False),
    ],
)
def test_a_source_may_be_the_same_unless_something_that_both_know_differs(
    one: Identity, other: Identity, same: bool
) -> None:
    assert one.may_be(other) is same
    assert other.may_be(one) is same


def test_each_inline_element_is_a_line_without_white_space_between_its_tokens() -> None:
    source = inline(b'{ "a" : [ 1 ,\n 2 ] ,\r\n\t"b c" : " d \\n e " }', b"{}", b'{"n":1e999,"m":0.10}')

    assert read(source) == b'{"a":[1,2],"b c":" d \\n e "}\n{}\n{"n":1e999,"m":0.10}\n'


def test_an_inline_source_is_known_by_its_content_and_always_begins_at_its_beginning() -> None:
    one, same, other = inline(b'{"a": 1}', b"{}"), inline(b'{"a":1}', b" {} "), inline(b'{"a":2}', b"{}")
    with one.open(0, None) as opened:
        known = opened.identity
        assert known.length == len(b'{"a":1}\n{}\n')

    with same.open(5, known) as opened:
        assert (opened.identity, opened.start) == (known, 0)
    with other.open(5, known) as opened:
        assert not opened.identity.may_be(known)


TREES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(st.lists(TREES), st.sampled_from([None, 1, 4]), st.booleans())
def test_inline_elements_keep_their_values_one_a_line(
    elements: list[Any], indent: int | None, ascii_only: bool
) -> None:
    texts = [json.dumps(element, indent=indent, ensure_ascii=ascii_only) for element in elements]

    lines = read(inline(*(text.encode() for text in texts))).split(b"\n")

    assert lines.pop() == b""
    assert [json.loads(line) for line in lines] == elements


@pytest.mark.parametrize(
    ("operation", "kind"),
    [
        ({"response": {"responsesFile": "files/x"}}, FileSource),
        ({"response": {"inlinedResponses": [{"response": {}}]}}, InlineSource),
        (
            {"response": {"inlinedResponses": []}, "metadata": {"batchStats": {"requestCount": "0"}}},
            InlineSource,
        ),
        ({"response": {"inlinedResponses": []}, "metadata": {"batchStats": {"requestCount": "1"}}}, None),
        ({"response": {"inlinedResponses": []}}, None),
        ({"response": {}}, None),
        ({"metadata": {"batchStats": {"requestCount": "0"}}}, None),
    ],
)
def test_an_empty_inline_answer_is_an_output_only_of_a_batch_without_requests(
    source: FileSource, operation: dict[str, Any], kind: type[object] | None
) -> None:
    found = source_of(parse_batch(json.dumps(operation).encode(), "abc"), source.gemini)

    assert type(found) is (kind or type(None))


@given(st.lists(st.binary()), st.integers(0, 50))
def test_skipping_leaves_all_but_the_first_bytes(chunks: list[bytes], count: int) -> None:
    assert b"".join(sources.skip(iter(chunks), count)) == b"".join(chunks)[count:]
