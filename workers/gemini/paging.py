"""The one loop over a list that comes in pages."""

from collections.abc import Callable, Iterator
from typing import TypeVar

from workers.errors import GeminiUnavailable

Item = TypeVar("Item")


def listed(what: str, fetch: Callable[[str], tuple[Iterator[Item], str]]) -> Iterator[Item]:
    """Everything in the list of `what`. Of its pages one at a time is held, and none while the next one is fetched.

    Args:
        what: what is listed, in the plural.
        fetch: gives what is on the page of a token, and the token of the next page; the empty one is the first, and
            the last.

    Raises:
        GeminiUnavailable: the list repeats a page, and so would never end.
    """
    token, seen = "", set[str]()
    while True:
        items, token = fetch(token)
        yield from items
        del items
        if not token:
            return
        if token in seen:
            raise GeminiUnavailable(f"Gemini's list of {what} does not end: it repeats a page.")
        seen.add(token)
