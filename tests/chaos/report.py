"""What a run shows: the faults by kind, how long things took, and where the bucket differs from a calm run's."""

import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.support.deployment import TIMES

_DAY = re.compile(r"\A_index/\d{4}-\d{2}-\d{2}/")
_SHOWN = 20


@dataclass(slots=True)
class Report:
    """`faults`: kind, then how often it `struck` and how often it found nothing to strike (`missed`).

    `memory`: what each process held after each quarter of the faults, in MB.
    """

    seed: int
    batches: int
    faults: dict[str, dict[str, int]] = field(default_factory=dict)
    kinds: dict[str, int] = field(default_factory=dict)
    tellings: dict[str, int] = field(default_factory=dict)
    logged: dict[str, int] = field(default_factory=dict)
    restarts: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    memory: dict[str, list[float]] = field(default_factory=dict)
    files: int = 0
    wrong: list[str] = field(default_factory=list)

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2)

    def to_text(self) -> str:
        """For people: a table of faults, then the figures, then what is wrong."""
        lines = [f"seed {self.seed}: {self.batches} batches, {self.files} files compared", ""]
        width = max(map(len, self.faults), default=0)
        for name, counts in self.faults.items():
            missed = f"  ({counts['missed']} found nothing to strike)" if counts["missed"] else ""
            lines.append(f"  {name:<{width}}  {counts['struck']:>4}{missed}")
        lines += ["", *(f"{title}: {_listed(values)}" for title, values in self._figures() if values)]
        for name, held in self.memory.items():
            lines.append(f"MB after each quarter, {name}: {', '.join(f'{each:g}' for each in held)}")
        if self.wrong:
            lines += ["", f"WRONG ({len(self.wrong)}):", *(f"  {each}" for each in self.wrong[:_SHOWN])]
        else:
            lines += ["", "The bucket equals that of a calm run, byte for byte but for times and triggers."]
            lines += ["`verify` finds each batch intact."]
        return "\n".join(lines)

    def _figures(self) -> list[tuple[str, dict[str, int] | dict[str, float]]]:
        return [
            ("batches", self.kinds),
            ("told", self.tellings),
            ("workers logged", self.logged),
            ("ended by themselves and were started again", self.restarts),
            ("seconds", self.seconds),
        ]


def differences(found: Path, expected: Path) -> list[str]:
    """Where two buckets differ, but for `committed_at`, `trigger`, `revision` and the day of the index."""
    ours, theirs = _comparable(found), _comparable(expected)
    return [
        *(f"differs: {name}" for name in sorted(ours.keys() & theirs.keys()) if ours[name] != theirs[name]),
        *(f"missing: {name}" for name in sorted(theirs.keys() - ours.keys())),
        *(f"not in a calm run: {name}" for name in sorted(ours.keys() - theirs.keys())),
    ]


def count_files(folder: Path) -> int:
    return sum(path.is_file() for path in folder.rglob("*"))


def _comparable(folder: Path) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for path in folder.rglob("*"):
        if path.is_file():
            name = path.relative_to(folder).as_posix()
            is_summary = path.name == "batch.json" or name.startswith("_index/")
            data = path.read_bytes()
            # Two copies in the index of one batch, of different days, would be a difference too.
            place = _DAY.sub("_index/<day>/", name)
            while place in found:
                place += " (again)"
            found[place] = TIMES.sub(b"", data) if is_summary else data
    return found


def _listed(values: dict[str, int] | dict[str, float]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in values.items())
