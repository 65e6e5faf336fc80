"""Which batches have a text in their id or display name.

What many have is found by going through the newest: a page of them and a bounded count are soon known. What few have is
looked for by Redis, and only what it finds is fetched: to fetch every name and look here cost 45 ms of CPU with 10,000
batches, and hundreds of milliseconds on a busy machine; so did thousands that Redis had found.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from workers.contract.history.states import Names, text, texts

MOST_COUNTED = 1000
"""Of more it is only said that there are more."""

_AT_ONCE = 5000
_SCORES_AT_ONCE = 5000
_FIRST_LOOK = 300  # Enough to see whether many match.
_NEWEST_AT_ONCE = 1000
_ONE_IN = 5  # As many must match, or Redis looks for them: below that it finds no more than a few thousand.


def title(display_name: str, ref: str) -> str:
    """What a batch is found by: a member of the set of titles."""
    return f"{display_name.casefold()}\n{ref}"


def newest_with(
    connection: Any,
    names: Names,
    index: str,
    between: tuple[float | str, float | str],
    sought: str,
    *,
    most: int,
) -> list[tuple[float, str]] | None:
    """As `refs_with`, newest first and with their scores, by going through those of `index`; None where few match.

    `between`: the least and the highest score. It is enough to know one more than `most`.

    Raises `redis.exceptions.RedisError`.
    """
    least, highest = between
    in_name, in_id = sought.casefold(), sought.lower() if sought.isascii() else None
    found: dict[str, float] = {}
    seen = 0
    while True:
        at_once = _NEWEST_AT_ONCE if seen else _FIRST_LOOK
        rows = connection.zrevrangebyscore(index, highest, least, start=seen, num=at_once, withscores=True)
        refs = [text(ref) for ref, _ in rows]
        known = connection.hmget(names.display_names, refs) if refs else []
        for ref, name, (_, moment) in zip(refs, known, rows, strict=True):
            if (name is not None and in_name in text(name)) or (
                in_id is not None and in_id in ref.partition("/")[2].lower()
            ):
                found[ref] = float(moment)
        seen += len(rows)
        if len(found) > most or len(rows) < at_once:
            return [(moment, ref) for ref, moment in found.items()]
        if len(found) * _ONE_IN < seen:
            return None


def refs_with(connection: Any, names: Names, index: str, sought: str) -> set[str]:
    """Refs that have it in their display name, or are of `index` and have it in their id, in small letters or not.

    Raises `redis.exceptions.RedisError`.
    """
    _complete(connection, names)
    # Round trips are what costs on a busy machine, so both are walked together.
    in_titles, in_ids = f"*{_literally(sought.casefold())}*\n*", f"*/*{_in_any_case(sought)}*"
    found: set[str] = set()
    titles_from: int | None = 0
    ids_from: int | None = 0 if sought.isascii() else None
    while titles_from is not None or ids_from is not None:
        with connection.pipeline(transaction=False) as pipe:
            if titles_from is not None:
                pipe.sscan(names.titles, titles_from, in_titles, _AT_ONCE)
            if ids_from is not None:
                pipe.zscan(index, ids_from, in_ids, _AT_ONCE)
            replies = pipe.execute()
        if titles_from is not None:
            titles_from, members = replies.pop(0)
            found.update(text(member).rpartition("\n")[2] for member in members)
        if ids_from is not None:
            ids_from, scored = replies.pop(0)
            found.update(text(ref) for ref, _ in scored)
        titles_from, ids_from = titles_from or None, ids_from or None
    return found


def ranked(connection: Any, index: str, refs: Sequence[str]) -> Iterator[tuple[float, str]]:
    """Those of the refs that are in `index`, with their scores there."""
    for first in range(0, len(refs), _SCORES_AT_ONCE):
        group = refs[first : first + _SCORES_AT_ONCE]
        for ref, score in zip(group, connection.zmscore(index, group), strict=True):
            if score is not None:
                yield float(score), ref


def _complete(connection: Any, names: Names) -> None:
    """Names that a version without titles wrote are added, once."""
    with connection.pipeline(transaction=False) as pipe:
        pipe.scard(names.titles)
        pipe.hlen(names.display_names)
        titles, display_names = pipe.execute()
    if titles < display_names:
        known = texts(connection.hgetall(names.display_names))
        connection.sadd(names.titles, *(title(name, ref) for ref, name in known.items()))


def _literally(sought: str) -> str:
    return re.sub(r"([*?\[\]\\^])", r"\\\1", sought)


def _in_any_case(sought: str) -> str:
    return "".join(
        f"[{each.lower()}{each.upper()}]" if each.isalpha() else _literally(each) for each in sought
    )
