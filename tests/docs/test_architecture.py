"""What the pages for contributors name is there, and what is there is in the map."""

import ast
import re
from pathlib import Path

import pytest

from tests.support.processes import ROOT
from tests.test_cases import OWN

ARCHITECTURE = (ROOT / "docs/architecture.md").read_text()
ANSWERS = (ROOT / "docs/answers.md").read_text()
PAGES = {
    "docs/architecture.md": ARCHITECTURE,
    "docs/answers.md": ANSWERS,
    "CONTRIBUTING.md": (ROOT / "CONTRIBUTING.md").read_text(),
}


def named(pattern: str) -> list[tuple[str, str]]:
    """A page and what it names, for each such name in backticks."""
    return [(page, name) for page, text in PAGES.items() for name in re.findall(f"`({pattern})`", text)]


def defined_in(path: Path) -> set[str]:
    return {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize(("page", "name"), named(r"[\w/]+\.py"))
def test_every_file_that_a_page_names_exists(page: str, name: str) -> None:
    assert (ROOT / name).is_file(), page


@pytest.mark.parametrize(("page", "name"), named(r"tests/[\w/]+\.py::\w+"))
def test_every_test_that_a_page_names_exists(page: str, name: str) -> None:
    path, _, test = name.partition("::")

    assert test in defined_in(ROOT / path), page


def test_every_package_is_in_the_map() -> None:
    packages = {
        f"{path.parent.relative_to(ROOT)}/"
        for room in ("receiver", "workers", "sender", "console", "emulator")
        for path in (ROOT / room).rglob("__init__.py")
    }
    rows = set(re.findall(r"^\| `([\w/]+/)` \|", ARCHITECTURE, re.MULTILINE))

    assert packages <= rows


def test_every_module_of_the_story_is_on_the_way_of_the_data_or_serves_it() -> None:
    on_the_way = set(re.findall(r"`workers/(\w+)\.py`", ARCHITECTURE))
    story = {path.stem for path in (ROOT / "workers").glob("*.py")} - {"__init__"}
    serving = {"cli", "command_line", "contract", "plan", "settings", "strangers"}

    assert story - on_the_way - serving == set()


def test_every_make_target_that_a_page_names_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for _, command in named(r"make [a-z-]+"):
        assert re.search(rf"^{command.removeprefix('make ')}:", makefile, re.MULTILINE), command


def test_every_row_of_the_answers_names_a_test_and_every_case_has_a_row() -> None:
    rows = [line.split("|") for line in ANSWERS.splitlines() if line.startswith("| ")][2:]
    assert len(rows) > 90
    assert all(re.fullmatch(r" `tests/[\w/]+\.py::\w+` ", row[3]) for row in rows)
    inputs = {path.name for path in (ROOT / "tests/cases").iterdir()}
    assert inputs == set(re.findall(r"`([\w-]+\.jsonl?)`", ANSWERS))
    assert {row[2].strip() for row in rows} >= OWN.keys()
