"""What results add up to."""

from workers.results.documents import manifest_line, read
from workers.results.result import parse, render
from workers.results.tally import Tally, tally_of

LINES = [
    b'{"key":"a","response":{"candidates":[{"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":3}}}',
    b'{"key":"b","response":{"candidates":[{"finishReason":"STOP"}],"usageMetadata":{"totalTokenCount":"4"}}}',
    b'{"key":"c","response":{"promptFeedback":{"blockReason":"SAFETY"}}}',
    b'{"key":"d","error":{"code":400}}',
    b"junk",
]


def test_tallies_add_up() -> None:
    total = Tally()

    total.add(Tally(2, 1, {"succeeded": 2}, {"STOP": 2}, {"total_tokens": 5, "prompt_tokens": 0}))
    total.add(Tally(3, 0, {"succeeded": 1, "failed": 2}, {"SAFETY": 1}, {"total_tokens": 7}))

    assert (total.lines, total.repeated) == (5, 1)
    assert total.counts == {"succeeded": 3, "failed": 2}
    assert total.finish_reasons == {"STOP": 2, "SAFETY": 1}
    assert total.usage["total_tokens"] == 12


def test_results_and_their_manifest_lines_are_the_same_sum() -> None:
    results = [render(parse(line), index, 1) for index, line in enumerate(LINES)]
    entries = [read(manifest_line(result, "raw/x", 0, 1, has_object=True)) for result in results]

    tally = tally_of(results)

    assert tally == tally_of(entries)
    assert tally.counts == {"succeeded": 3, "failed": 1, "invalid": 1}
    assert tally.finish_reasons == {"STOP": 2, "BLOCKED": 1}
    assert (tally.usage["prompt_tokens"], tally.usage["total_tokens"]) == (3, 4)


def test_nothing_adds_up_to_nothing() -> None:
    assert tally_of([]) == Tally()
