"""What is in the demo's bucket, read as any user would: a folder per batch, `batch.json` the sign that it is whole."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emulator.demo.jobs import Example, Holds

_PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True, slots=True)
class Landed:
    """Where a batch ended up: `summary` is its `batch.json`, `missing` has a sentence for all that is not right."""

    example: Example
    batch: str
    folder: Path
    summary: dict[str, Any]
    documents: dict[str, dict[str, Any]]
    missing: list[str]

    @property
    def state(self) -> str:
        return str(self.summary.get("state", "not committed"))

    @property
    def results(self) -> str:
        counts = self.summary.get("counts", {})
        failed = counts.get("failed", 0) + counts.get("invalid", 0)
        return f"{counts.get('total', 0)}{f' ({failed} failed)' if failed else ''}"

    def output(self, key: str) -> Path:
        return self.folder / "outputs" / f"{key}.json"

    def image(self, key: str) -> Path:
        return self.folder / str(self.documents[key]["media"][0]["object"])

    def manifest(self) -> list[str]:
        return _lines(self.folder / "manifest.jsonl")


def is_committed(bucket: Path, batch: str) -> bool:
    return (bucket / batch / "batch.json").exists()


def look(bucket: Path, example: Example, batch: str) -> Landed:
    """Read a batch's objects and hold each of them to what the example asks for."""
    landed = Landed(example, batch, bucket / batch, {}, {}, [])
    summary = _document(landed.folder / "batch.json")
    if summary is None:
        landed.missing.append(f"{example.display_name} was not committed: it has no readable batch.json.")
        return landed
    landed.summary.update(summary)
    landed.missing.extend(f"{example.display_name}: {what}." for what in _wrong_in_summary(landed))
    for key in example.requests:
        document = _document(landed.output(key))
        if document is None:
            landed.missing.append(f"{example.display_name}: outputs/{key}.json is missing or unreadable.")
            continue
        landed.documents[key] = document
        problem = _wrong_in_output(landed, key, document)
        if problem:
            landed.missing.append(f"{example.display_name}: outputs/{key}.json {problem}.")
    return landed


def _wrong_in_summary(landed: Landed) -> list[str]:
    expected = {
        "batch.json": (landed.summary.get("batch"), landed.batch),
        "its state": (landed.summary.get("state"), "succeeded"),
        "its trigger": (landed.summary.get("trigger"), "webhook"),
        "its number of results": (
            landed.summary.get("counts", {}).get("total"),
            len(landed.example.requests),
        ),
        "its number of failed requests": (
            landed.summary.get("counts", {}).get("failed"),
            len(landed.example.failing),
        ),
        "its number of manifest lines": (len(landed.manifest()), len(landed.example.requests)),
    }
    return [
        f"{what} is {found}, not {wanted}" for what, (found, wanted) in expected.items() if found != wanted
    ]


def _wrong_in_output(landed: Landed, key: str, document: dict[str, Any]) -> str | None:
    status = "failed" if key in landed.example.failing else "succeeded"
    if (document.get("key"), document.get("status")) != (key, status):
        return f"is not the {status} result of that key"
    if status == "failed":
        error = document.get("error")
        return None if isinstance(error, dict) and error.get("message") else "does not say what went wrong"
    try:
        holds = _holds(landed, key, document)
    except (KeyError, IndexError, TypeError, ValueError, OSError):
        holds = False
    return None if holds else f"does not lead to {landed.example.holds.value}"


def _holds(landed: Landed, key: str, document: dict[str, Any]) -> bool:
    match landed.example.holds:
        case Holds.TEXT:
            return bool(document["text"])
        case Holds.JSON:
            return bool(json.loads(document["text"]))
        case Holds.EMBEDDING:
            return bool(document["response"]["embedding"]["values"])
        case Holds.IMAGE:
            return landed.image(key).read_bytes().startswith(_PNG)


def _document(path: Path) -> dict[str, Any] | None:
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return document if isinstance(document, dict) else None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return []
