"""compose.yaml, read without a YAML library: it keeps to a small part of the language."""

import json
from collections import deque
from typing import Any


def read_yaml(text: str) -> Any:
    """The part of YAML that compose.yaml keeps to: nested mappings, lists of scalars, lists in brackets."""
    rows = (row for row in text.splitlines() if row.strip() and not row.lstrip().startswith("#"))
    return _block(deque((len(row) - len(row.lstrip()), row.strip()) for row in rows), 0)


def _block(rows: deque[tuple[int, str]], indent: int) -> Any:
    if rows[0][1].startswith("- "):
        items = []
        while rows and rows[0][0] == indent and rows[0][1].startswith("- "):
            items.append(_scalar(rows.popleft()[1][2:]))
        return items
    mapping: dict[str, Any] = {}
    while rows and rows[0][0] == indent:
        key, colon, value = rows.popleft()[1].partition(":")
        assert colon, f"{key!r} is no line of a mapping"
        assert key not in mapping, f"{key!r} stands twice"
        mapping[key] = _scalar(value.strip()) if value.strip() else _block(rows, rows[0][0])
    return mapping


def _scalar(text: str) -> Any:
    assert " #" not in text, text
    assert text[:1] not in {"&", "*", "|", ">", "'"}, text
    if text.startswith("[") and '"' not in text:
        return text.strip("[]").split(", ")
    if text[:1] in {"[", "{", '"'} or text in {"true", "false"}:
        return json.loads(text)
    return text
