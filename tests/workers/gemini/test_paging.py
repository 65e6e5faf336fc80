"""One loop over pages: each of them once, in order, and never for ever."""

import weakref
from collections.abc import Iterator

import pytest

from workers.errors import GeminiUnavailable
from workers.gemini.paging import listed

LIST = {"": ("one", "b"), "b": ("two", "c"), "c": ("three", "")}


def test_every_page_is_fetched_once_and_only_when_it_is_wanted() -> None:
    asked: list[str] = []

    def fetch(token: str) -> tuple[Iterator[str], str]:
        asked.append(token)
        return iter([LIST[token][0]]), LIST[token][1]

    found = listed("things", fetch)

    assert next(found) == "one"
    assert asked == [""]
    assert list(found) == ["two", "three"]
    assert asked == ["", "b", "c"]


@pytest.mark.parametrize("back_to", ["b", "c"])
def test_a_token_that_repeats_ends_the_list_with_an_error(back_to: str) -> None:
    pages = {**LIST, "c": ("three", back_to)}
    found = listed("things", lambda token: (iter([pages[token][0]]), pages[token][1]))

    assert [next(found) for _ in range(3)] == ["one", "two", "three"]
    with pytest.raises(GeminiUnavailable, match="list of things does not end"):
        next(found)


def test_a_page_is_let_go_before_the_next_one_is_fetched() -> None:
    class Page:
        def __iter__(self) -> Iterator[int]:
            yield 1

    alive: list[weakref.ref[Page]] = []

    def fetch(_: str) -> tuple[Iterator[int], str]:
        assert not any(page() for page in alive)
        page = Page()
        alive.append(weakref.ref(page))
        return iter(page), str(len(alive)) if len(alive) < 3 else ""

    assert list(listed("things", fetch)) == [1, 1, 1]
