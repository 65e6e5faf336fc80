"""What the demo says of the results once they are there: a document for programs, a short tour for people."""

import shlex
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.json import JSON
from rich.table import Table
from rich.text import Text

from emulator.demo.jobs import Holds
from emulator.demo.results import Landed

_FIRST_NUMBERS = 4
_FIRST_LINES = 2


def document(folder: Path, landed: list[Landed], seconds: float) -> dict[str, Any]:
    """The outcome as `--json` prints it."""
    return {
        "folder": str(folder),
        "seconds": round(seconds, 1),
        "batches": [
            {
                "name": each.example.display_name,
                "batch": each.batch,
                "state": each.state,
                "counts": each.summary.get("counts"),
                "folder": str(each.folder),
                "outputs": [str(each.output(key)) for key in each.documents],
            }
            for each in landed
        ],
        "missing": [sentence for each in landed for sentence in each.missing],
    }


def show(out: Console, folder: Path, landed: list[Landed], seconds: float) -> None:
    """The table of batches, then one of each kind of result. What is incomplete is left to the caller to say."""
    out.print()
    out.print(_table(landed))
    whole = [each for each in landed if not each.missing]
    for each in whole:
        match each.example.holds:
            case Holds.TEXT if each.example.failing:
                _show_text(out, each)
                _show_failure(out, each)
                _show_manifest(out, each)
                _show_table(out, folder / each.example.table)
            case Holds.IMAGE:
                _show_image(out, each)
            case Holds.EMBEDDING:
                _show_embedding(out, each)
    if len(whole) == len(landed):
        _show_end(out, folder, landed, seconds)


def _table(landed: list[Landed]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for heading in ("Batch, and its folder", "State", "Results"):
        table.add_column(heading, no_wrap=True, overflow="ignore")
    for each in landed:
        name = Text.assemble(each.example.display_name, "\n", (f"{each.folder}/", "dim"))
        table.add_row(name, each.state, each.results)
    return table


def _heading(out: Console, what: str, path: Path) -> None:
    out.print(Text.assemble("\n", (what, "bold"), "\n", (str(path), "dim")))


def _show_text(out: Console, landed: Landed) -> None:
    path = landed.output(next(key for key in landed.documents if key not in landed.example.failing))
    _heading(out, "A text", path)
    out.print(JSON(path.read_text(encoding="utf-8")))


def _show_failure(out: Console, landed: Landed) -> None:
    key = min(landed.example.failing)
    error = landed.documents[key]["error"]
    _heading(out, "A request that failed", landed.output(key))
    out.print(Text(f"{error.get('code', '')} {error.get('status', '')}: {error['message']}".strip()))


def _show_manifest(out: Console, landed: Landed) -> None:
    lines = landed.manifest()
    _heading(out, "A manifest", landed.folder / "manifest.jsonl")
    for line in lines[:_FIRST_LINES]:
        if out.is_terminal:
            overflow: Literal["ellipsis", "crop"] = "ellipsis" if out.encoding.startswith("utf") else "crop"
            out.print(Text(line), soft_wrap=False, no_wrap=True, overflow=overflow)
        else:
            out.print(Text(line))
    if len(lines) > _FIRST_LINES:
        out.print(f"[dim]and {len(lines) - _FIRST_LINES} more[/]")


def _show_table(out: Console, path: Path) -> None:
    _heading(out, "The same as a table, in the order of the requests", path)
    lines = path.read_text(encoding="utf-8").splitlines()[:_FIRST_LINES]
    out.print(Text("\n".join(line if out.is_terminal else line[:76] for line in lines)), overflow="ellipsis")


def _show_embedding(out: Console, landed: Landed) -> None:
    key, found = next(iter(landed.documents.items()))
    values = found["response"]["embedding"]["values"]
    _heading(out, "An embedding", landed.output(key))
    numbers = ", ".join(str(value) for value in values[:_FIRST_NUMBERS])
    out.print(Text(f"{numbers}, and {len(values) - _FIRST_NUMBERS} more numbers"))


def _show_image(out: Console, landed: Landed) -> None:
    key, found = next(iter(landed.documents.items()))
    medium = found["media"][0]
    _heading(out, "An image", landed.image(key))
    out.print(Text(f"{medium['mime_type']}, {medium['bytes']} bytes"))


def _show_end(out: Console, folder: Path, landed: list[Landed], seconds: float) -> None:
    total = sum(len(each.documents) for each in landed)
    out.print(
        Text.assemble(
            "\n",
            (f"All {total} results of {len(landed)} batches are there", "bold green"),
            f", {seconds:.1f} seconds after the start.",
        )
    )
    out.print(Text(f"They stay in {folder}: find {shlex.quote(str(folder))} -type f"))
    out.print(Text('Next, with your own key and bucket: the README, "Use it for real".'))
