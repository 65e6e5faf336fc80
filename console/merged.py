"""The histories of all projects, read as one: newest first, a page at a time.

A batch is known by its project and its id: the same id in two projects is two batches.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from heapq import merge
from itertools import islice
from typing import NamedTuple

from workers.contract.history.pages import Entry, Filter, Page, Pages, Record


class Ref(NamedTuple):
    """A batch of a project."""

    project: str
    batch: str


class Merged:
    """`all_pages`: those of each project, by its name. Raises `redis.exceptions.RedisError` as they do."""

    def __init__(self, all_pages: Mapping[str, Pages]) -> None:
        self._all = all_pages

    def page(self, wanted: Filter, *, offset: int, limit: int) -> Page:
        """Batches that match, newest first."""
        chosen = self._chosen(wanted.project)
        wanted = replace(wanted, project=None)
        if len(chosen) == 1:
            ((name, pages),) = chosen.items()
            found = pages.page(wanted, offset=offset, limit=limit)
            return replace(found, records=_named(name, found.records))
        newest = {name: pages.newest(wanted, offset + limit) for name, pages in chosen.items()}
        ranked = merge(
            *([(moment, name, ref) for moment, ref in found.rows] for name, found in newest.items()),
            key=lambda each: each[0],
            reverse=True,
        )
        shown = [*islice(ranked, offset, offset + limit)]
        records: dict[tuple[str, str], Record] = {}
        for name, pages in chosen.items():
            refs = [ref for _, of, ref in shown if of == name]
            records |= {(name, record.ref): record for record in pages.records(refs)} if refs else {}
        in_order = [(name, records[name, ref]) for _, name, ref in shown if (name, ref) in records]
        return Page(
            [record for name, each in in_order for record in _named(name, [each])],
            sum(found.total for found in newest.values()),
            any(found.more for found in newest.values()),
        )

    def matching(self, wanted: Filter) -> list[Ref]:
        """All batches that match, project by project, each newest first."""
        bare = replace(wanted, project=None)
        return [
            Ref(name, ref.partition("/")[2])
            for name, pages in self._chosen(wanted.project).items()
            for ref in pages.matching(bare)
        ]

    def counts(self, project: str | None = None) -> Counter[str]:
        """How many batches are in each state, and under `warned` how many commits have warnings."""
        return _sums(pages.counts() for pages in self._chosen(project).values())

    def delivered(self, project: str | None) -> Counter[str]:
        """How many deliveries of each outcome are kept."""
        return _sums(pages.delivered() for pages in self._chosen(project).values())

    def deliveries(
        self, outcome: str | None, *, project: str | None, before: str | None, limit: int
    ) -> list[Entry]:
        """Deliveries, newest first; with several projects each has `project`. As `Pages.deliveries`."""
        found = {
            name: pages.deliveries(outcome, before=_before(before, name), limit=limit)
            for name, pages in self._chosen(project).items()
        }
        return self._entries(found, limit)

    def actions(self, *, before: str | None, limit: int) -> list[Entry]:
        """What people did, newest first; with several projects each has `project`."""
        found = {
            name: pages.actions(before=_before(before, name), limit=limit)
            for name, pages in self._all.items()
        }
        return self._entries(found, limit)

    def _chosen(self, project: str | None) -> Mapping[str, Pages]:
        """One project, or all; none where there is none of that name."""
        if project is None:
            return self._all
        return {project: self._all[project]} if project in self._all else {}

    def _entries(self, found: Mapping[str, list[Entry]], limit: int) -> list[Entry]:
        if len(self._all) == 1:
            return [entry for entries in found.values() for entry in entries]
        told = [
            # Two projects may use the same id in the same millisecond.
            Entry(f"{entry.id}@{name}", entry.at, {**entry.fields, "project": name})
            for name, entries in found.items()
            for entry in entries
        ]
        return sorted(told, key=_order, reverse=True)[:limit]


def _named(name: str, records: Iterable[Record]) -> list[Record]:
    return [record if record.project == name else replace(record, project=name) for record in records]


def _sums(counted: Iterable[Mapping[str, int]]) -> Counter[str]:
    """What is not in there is 0."""
    total: Counter[str] = Counter()
    for counts in counted:
        total.update(counts)
    return total


def _order(entry: Entry) -> tuple[int, int, str, str]:
    told, _, project = entry.id.partition("@")
    moment, number, outcome = f"{told}-".split("-")[:3]
    return int(moment), int(number), project, outcome


def _before(before: str | None, name: str) -> str | None:
    """Where a project's entries go on, so that what is merged goes on after `before`."""
    if before is None:
        return None
    told, _, project = before.partition("@")
    if not project or name == project:
        return told
    moment, number = told.split("-")[:2]
    # In the same millisecond names that come first in the alphabet come last.
    return f"{moment}-{int(number) + (name < project)}"
