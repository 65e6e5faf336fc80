"""The one loop over a list that comes in pages."""

from collections.abc import Callable, Iterator
from typing import TypeVar

from workers.errors import GeminiUnavailable

Page = TypeVar("Page")


def pages(what: str, fetch: Callable[[str], tuple[Page, str]]) -> Iterator[Page]:
    """Every page of the list of `what`.

    Args:
        what: what is listed, in the plural.
        fetch: gives the page of a token, and the token of the next one; the empty token is the first, and the last.

    Raises:
        GeminiUnavailable: the list repeats a page, and so would never end.
    """
    token, seen = "", set[str]()
    while True:
        page, token = fetch(token)
        yield page
        if not token:
            return
        if token in seen:
            raise GeminiUnavailable(f"Gemini's list of {what} does not end: it repeats a page.")
        seen.add(token)
