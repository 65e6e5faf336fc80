"""Trouble on demand: a table of faults, each looked up where it would happen.

A fault has a `kind`, a `match` (a substring of `METHOD /path?query`, or of `DELIVER http://…` for a delivery;
empty matches all), `times` (how often it strikes, 0 for always) and, by kind, a `value` or a `text`.
"""

import itertools
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from emulator.errors import bad_request, refusal

KINDS = {
    "status": "answer with the HTTP status `value`, and with `Retry-After: <retry_after>` if that is given; or with the"
    " refusal that `text` names",
    "lost": "do what is asked, then answer with the HTTP status `value` as if it had not been done",
    "delay": "wait `value` seconds before a request is looked at, or a delivery is sent",
    "cut": "close the connection of a download after `value` bytes; of an upload keep so many, and answer 503",
    "throttle": "send a download at `value` bytes a second",
    "ignore_range": "answer a download that asks for a range with everything",
    "redirect": "send a call below `/download/` to the same address without it, with the HTTP status `value`",
    "page": "answer a download with 200 and a gateway's page of HTML",
    "empty": "answer a download with 200 and nothing",
    "short": "end a download `value` bytes early, without a length and as if that were all",
    "gzip": "compress a download although nobody asked; without saying so where `value` is 1",
    "late_output": "show a batch as it is but without its output",
    "late_listed": "leave batches out of the list for `value` seconds after their creation",
    "top_level": "show batches with their fields at the top, and not as operations",
    "state": "show a batch in the state `text`, such as `PAUSED`, whatever its own is",
    "duplicate": "send a delivery `value` times more than asked for, under the same id",
}


@dataclass(slots=True)
class Fault:
    id: int
    kind: str
    match: str = ""
    times: int = 1
    value: float = 0
    text: str = ""
    retry_after: str | None = None
    struck: int = 0

    def strikes(self, kind: str, subject: str) -> bool:
        return kind == self.kind and self.match in subject and not 0 < self.times <= self.struck


class Faults:
    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._ids = itertools.count(1)

    def add(self, description: Mapping[str, Any]) -> Fault:
        """Raises ApiError (400) for an unknown kind, field or refusal."""
        if description.get("kind") not in KINDS:
            raise bad_request(f"A fault's kind is one of {', '.join(KINDS)}.")
        if description["kind"] == "status" and description.get("text"):
            refusal(str(description["text"]))
        try:
            fault = Fault(id=next(self._ids), **description)
        except TypeError as error:
            raise bad_request(f"Unknown field of a fault: {error}.") from None
        self._faults.append(fault)
        return fault

    def take(self, kind: str, subject: str) -> Fault | None:
        """The first fault of that kind that strikes the subject; this counts as one of its times."""
        for fault in self._faults:
            if fault.strikes(kind, subject):
                fault.struck += 1
                return fault
        return None

    def clear(self) -> None:
        self._faults.clear()

    def describe(self) -> list[dict[str, Any]]:
        return [asdict(fault) for fault in self._faults]
