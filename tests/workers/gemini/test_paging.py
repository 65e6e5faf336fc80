"""One loop over pages: each of them once, in order, and never for ever."""

import pytest

from workers.errors import GeminiUnavailable
from workers.gemini.paging import pages

LIST = {"": ("one", "b"), "b": ("two", "c"), "c": ("three", "")}


def test_every_page_is_fetched_once_and_only_when_it_is_wanted() -> None:
    asked: list[str] = []

    def fetch(token: str) -> tuple[str, str]:
        asked.append(token)
        return LIST[token]

    found = pages("things", fetch)

    assert next(found) == "one"
    assert asked == [""]
    assert list(found) == ["two", "three"]
    assert asked == ["", "b", "c"]


@pytest.mark.parametrize("back_to", ["b", "c"])
def test_a_token_that_repeats_ends_the_list_with_an_error(back_to: str) -> None:
    found = pages("things", {**LIST, "c": ("three", back_to)}.__getitem__)

    assert [next(found) for _ in range(3)] == ["one", "two", "three"]
    with pytest.raises(GeminiUnavailable, match="list of things does not end"):
        next(found)
