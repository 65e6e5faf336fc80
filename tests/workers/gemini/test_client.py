"""A batch and the list of batches, small and large, as the emulator answers them and as nobody should."""

import json
import subprocess
import sys

import pytest

from tests.support.deployment import result_line
from tests.support.gemini import Gemini as Emulator
from tests.support.processes import ROOT
from tests.support.scripted import Answer, Asked, Scripted
from tests.workers.gemini.asking import read, traced
from workers.errors import (
    GeminiUnavailable,
)
from workers.gemini.client import Gemini


def test_a_batch_of_the_emulator_is_read(gemini: Emulator, emulated: Gemini) -> None:
    batch = gemini.put_batch(result_line("a"), display_name="mine", stats={"requestCount": "1"})

    found = emulated.batch(batch)

    assert (found.id, found.state, found.display_name, found.expected) == (batch, "succeeded", "mine", 1)
    assert found.result_file
    assert read(emulated, found.result_file) == result_line("a")


@pytest.mark.parametrize("state", ["SUCCEEDED", "EXPIRED", "PAUSED"])
def test_a_batch_of_the_emulator_is_read_in_the_other_shape_too(
    gemini: Emulator, emulated: Gemini, state: str
) -> None:
    batch = gemini.put_batch(result_line("a"), display_name="mine", said_at="top", state=state)

    found = emulated.batch(batch)

    assert (found.state_name, found.final, found.display_name) == (state.lower(), state != "PAUSED", "mine")
    assert found.result_file
    assert read(emulated, found.result_file) == result_line("a")
    assert [listed.state_name for listed in emulated.batches()] == [state.lower()]


def test_gemini_is_given_time_for_a_batch_that_may_hold_its_results(server: Scripted, client: Gemini) -> None:
    server.answer = lambda _: Answer(body=b"{}")

    client.batch("abc")
    list(client.batches())

    assert [asked.headers.get("x-server-timeout") for asked in server.asked] == ["300", None]


def test_a_large_inline_answer_is_read_whole(server: Scripted, client: Gemini) -> None:
    element = json.dumps({"metadata": {"key": "é"}, "response": {"text": "x" * 100_000}}).encode()
    inline = b'{"inlinedResponses":{"inlinedResponses":[%b]}}' % b",\n".join([element] * 200)
    server.answer = lambda _: Answer(body=b'{"done":true,"response":%b}' % inline)

    batch = client.batch("abc")

    assert (batch.id, batch.state) == ("abc", "succeeded")
    assert batch.inline is not None
    assert [bytes(each) for each in batch.inline] == [element] * 200


def test_a_large_page_of_a_list_is_read_like_a_small_one(server: Scripted, client: Gemini) -> None:
    operation = b'{"name":"batches/abc","done":true,"response":{"inlinedResponses":["%b"]}}' % (
        b"x" * 1_000_000
    )
    body = b'{"operations":[%b],"nextPageToken":%%b}' % b",".join([operation] * 20)
    server.answer = lambda _: Answer(body=body % (b'"2"' if len(server.asked) == 1 else b'""'))

    assert [(batch.id, batch.state, batch.inline) for batch in client.batches()] == [
        ("abc", "succeeded", None)
    ] * 40


def test_an_answer_larger_than_any_webhook_is_not_understood(server: Scripted, client: Gemini) -> None:
    server.answer = lambda _: Answer(body=b'{"id":"a","uri":"b"}' + b" " * (10 << 20))

    with pytest.raises(GeminiUnavailable, match="not understood"):
        client.webhooks.get("a")


READ_AND_MEASURE = """
import sys
from workers.gemini.access import Access, Secret
from workers.gemini.client import Gemini
from workers.sources import source_of

def peak():
    return int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) * 1024

gemini = Gemini(Access(sys.argv[1], Secret("key")))
before = peak()
batch = gemini.batch("abc")
with source_of(batch, gemini).open(0, None) as opened:
    length = sum(len(chunk) for chunk in opened.chunks)
print(length, peak() - before)
"""


def test_a_large_inline_answer_takes_no_more_memory_than_a_small_one(server: Scripted) -> None:
    element = json.dumps(
        {"response": {"parts": [{"text": "x" * 500}] * 4, "image": "A" * 1_000_000}}
    ).encode()
    output = b'{"inlinedResponses":{"inlinedResponses":[%b]}}' % b",".join([element] * 50)
    body = b'{"done":true,"metadata":{"output":%b},"response":%b}' % (output, output)
    server.answer = lambda _: Answer(body=body)

    ended = subprocess.run(
        [sys.executable, "-c", READ_AND_MEASURE, server.url],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )

    length, peak = map(int, ended.stdout.split())
    assert length > 50_000_000
    assert peak < 45_000_000


def test_all_pages_are_listed(gemini: Emulator, emulated: Gemini) -> None:
    put = {gemini.put_batch(result_line("a")) for _ in range(5)}

    assert {batch.id for batch in emulated.batches(page_size=2)} == put
    assert len([asked for asked in gemini.requests("/batches") if asked["method"] == "GET"]) == 3


def test_no_batches_are_an_empty_list(gemini: Emulator, emulated: Gemini) -> None:
    assert list(emulated.batches()) == []
    assert len(gemini.requests("/batches")) == 1


@pytest.mark.parametrize("body", [b"", b"[]", b"<html>", b'{"operations":{}}', b"[" * 100_000])
def test_a_list_that_can_not_be_read_can_heal(server: Scripted, client: Gemini, body: bytes) -> None:
    server.answer = lambda _: Answer(body=body)

    with pytest.raises(GeminiUnavailable, match="list of batches"):
        list(client.batches())


def test_a_list_whose_token_repeats_ends_with_an_error(server: Scripted, client: Gemini) -> None:
    server.answer = lambda _: Answer(body=b'{"operations":[{"name":"batches/abc"}],"nextPageToken":"again"}')

    found = client.batches()

    assert [next(found).id, next(found).id] == ["abc", "abc"]
    with pytest.raises(GeminiUnavailable, match="does not end"):
        next(found)
    assert len(server.asked) == 2


@pytest.mark.parametrize("output", ["response", "metadata"])
@pytest.mark.parametrize("deep", [False, True])
def test_a_listed_batch_keeps_no_inline_results(
    server: Scripted, client: Gemini, output: str, deep: bool
) -> None:
    element = b"[" * 10_000 + b"]" * 10_000 if deep else b'{"response":{}}'
    inline = b'{"inlinedResponses":{"inlinedResponses":[%b]}}' % element
    told = b'"metadata":{"output":%b}' % inline if output == "metadata" else b'"response":' + inline
    server.answer = lambda _: Answer(body=b'{"operations":[{"name":"batches/abc","done":true,%b}]}' % told)

    (batch,) = client.batches()

    assert (batch.id, batch.state, batch.inline) == ("abc", "succeeded", None)


def test_listing_holds_no_more_than_a_page_and_what_was_listed_next_to_nothing(
    server: Scripted, client: Gemini
) -> None:
    element = json.dumps({"response": {"text": "x" * 1_000_000}}).encode()
    operation = b'{"name":"batches/abc","response":{"inlinedResponses":{"inlinedResponses":[%b]}}}' % element

    def answer(_: Asked) -> Answer:
        page = len(server.asked)
        token = b'"%d"' % page if page < 4 else b'""'
        return Answer(body=b'{"operations":[%b],"nextPageToken":%b}' % (b",".join([operation] * 10), token))

    server.answer = answer

    with traced() as memory:
        listed = list(client.batches())
        held, peak = memory()

    assert len(listed) == 40
    assert held < 1_000_000
    assert peak < 35_000_000
