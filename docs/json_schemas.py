"""JSON Schemas of what others read: documents in the bucket, and what commands print with `--json`.

They are written from the code's own types. `python -m docs.json_schemas` writes `docs/schemas/`, and refuses where a
reader of the last version could lose something; with `--check` it only says what is wrong.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from console.doctor.check import Diagnosis
from receiver.registration.cli import Listed, Registration
from sender.batches_cli import Details, ShownAll
from sender.check import Report as Checked
from sender.resubmit_cli import Resubmitted
from sender.submit_cli import SubmittedAll
from workers.cli import Forgotten, Replayed
from workers.gemini.webhooks import Webhook
from workers.results.documents import Document, Entry
from workers.status import BatchStatus, Overview
from workers.summary import Summary
from workers.unannounced import Report
from workers.verify.cli import Verified

FOLDER = Path(__file__).parent / "schemas"

TYPES: dict[str, type[msgspec.Struct]] = {
    "batch": Summary,
    "output": Document,
    "manifest-line": Entry,
    "process": Summary,
    "status": Overview,
    "status-batch": BatchStatus,
    "verify": Verified,
    "check": Checked,
    "submit": SubmittedAll,
    "batches-list": ShownAll,
    "batches-get": Details,
    "resubmit": Resubmitted,
    "replay": Replayed,
    "forget": Forgotten,
    "reconcile": Report,
    "doctor": Diagnosis,
    "register": Registration,
    "webhooks-list": Listed,
    "webhooks-get": Webhook,
}

_FINAL = ["cancelled", "expired", "failed", "succeeded"]
_SHOWN_ELSEWHERE = {
    "$schema",
    "$defs",
    "$ref",
    "title",
    "description",
    "default",
    "properties",
    "required",
    "items",
}
"""What of a schema is no part of a place's own type."""


def schema(name: str) -> dict[str, Any]:
    """The schema of one kind of document."""
    (root,), definitions = msgspec.json.schema_components([TYPES[name]], ref_template="#/$defs/{name}")
    if "State" in definitions:
        # A commit is of a batch that has ended, whatever else a state can be.
        definitions["State"] = {"title": "State", "enum": _FINAL}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **root, "$defs": definitions}


def text(name: str) -> str:
    return json.dumps(schema(name), indent=2, ensure_ascii=False) + "\n"


def path(name: str) -> Path:
    return FOLDER / f"{name}.schema.json"


def generate() -> list[str]:
    """Write every schema; what stood against it. Nothing is written where a reader could lose something."""
    refused = [*losses()]
    if not refused:
        FOLDER.mkdir(exist_ok=True)
        for name in TYPES:
            path(name).write_text(text(name))
    return refused


def check() -> list[str]:
    """What is wrong with the files: stale, one too many, or unlike the code in what readers rely on."""
    stale = [
        f"{path(name).name} is stale: run `make docs`."
        for name in TYPES
        if not path(name).exists() or path(name).read_text() != text(name)
    ]
    unknown = {*FOLDER.glob("*.json")} - {path(name) for name in TYPES}
    return [
        *losses(),
        *stale,
        *(f"{each.name} is the schema of nothing: delete it." for each in sorted(unknown)),
    ]


def losses() -> Iterator[str]:
    """Where documents may no longer be what the schemas on the disk promise."""
    for name in TYPES:
        if path(name).exists():
            for loss in lost(json.loads(path(name).read_text()), schema(name)):
                yield f"{path(name).name}: {loss}. If that is meant, delete the file, and tell in CHANGELOG.md."


def lost(old: dict[str, Any], new: dict[str, Any]) -> Iterator[str]:
    """What a reader of documents after `old` could miss in documents after `new`, each with its path.

    A property more is no loss; one that is gone, may be absent now or has another type is.
    """
    before, now = Promises(old), Promises(new)
    for at, kind in before.types.items():
        if at not in now.types:
            yield f"{at} is gone"
        elif now.types[at] != kind:
            yield f"{at or 'the document'} was {kind} and is {now.types[at]}"
    for at in sorted(before.always & now.types.keys() - now.always):
        yield f"{at} may be absent now"


class Promises:
    """What a schema says of every place in a document: its type, and whether it is always there."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self.types: dict[str, str] = {}
        self.always: set[str] = set()
        self._definitions = schema.get("$defs", {})
        self._visit(schema, "")

    def _visit(self, node: Any, at: str) -> None:
        kinds = [self._resolved(each) for each in self._resolved(node).get("anyOf", [node])]
        self.types[at] = " or ".join(sorted(map(_kind, kinds)))
        for kind in kinds:
            for name, inner in kind.get("properties", {}).items():
                self._visit(inner, f"{at}.{name}" if at else name)
            self.always.update(f"{at}.{name}" if at else name for name in kind.get("required", ()))
            for word, mark in (("items", "[]"), ("additionalProperties", ".*")):
                if isinstance(kind.get(word), dict):
                    self._visit(kind[word], f"{at}{mark}")

    def _resolved(self, node: dict[str, Any]) -> dict[str, Any]:
        name = node.get("$ref", "").removeprefix("#/$defs/")
        return {**node, **self._definitions[name]} if name else node


def _kind(node: dict[str, Any]) -> str:
    told = {
        word: value
        for word, value in node.items()
        if word not in _SHOWN_ELSEWHERE and not (word == "additionalProperties" and isinstance(value, dict))
    }
    return str(told["type"]) if told.keys() == {"type"} else json.dumps(told) if told else "anything"


def main() -> int:
    said = check() if "--check" in sys.argv[1:] else generate()
    for each in said:
        print(each, file=sys.stderr)
    return 1 if said else 0


if __name__ == "__main__":
    sys.exit(main())
