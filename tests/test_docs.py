"""The README names every setting, command and make target there is, and no other; generated parts are up to date."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from docs.generate import PARTS, stale
from receiver.cli import COMMANDS, main
from tests.support.processes import ROOT
from workers.contract.settings import SETTINGS
from workers.results.naming import output_name

README = (ROOT / "README.md").read_text()


def _section(title: str, text: str = README) -> str:
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    assert found, f"no section {title!r}"
    return found[1]


def _first_column(section: str) -> list[str]:
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    return [name for row in rows for name in re.findall(r"`([^`]+)`", row.split("|")[1])]


def test_every_setting_is_in_the_readme_and_none_that_is_not_read() -> None:
    assert _first_column(_section("Settings")) == [setting.name for setting in SETTINGS]


def test_every_command_is_in_the_readme_and_none_that_does_not_exist() -> None:
    assert [name.split()[0] for name in _first_column(_section("Commands"))] == list(COMMANDS)


def test_every_command_that_the_readme_shows_has_options_that_exist() -> None:
    for line in re.findall(r"batch-receiver ([a-z]+ [^\n`]*)", README):
        words = line.split()
        command = main.get_command(main.make_context("batch-receiver", [], resilient_parsing=True), words[0])
        if command is None:
            continue
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word.split("=")[0] for word in words if word.startswith("--")} <= known | {"--help"}, line


def test_every_make_target_that_the_readme_shows_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make ([a-z-]+)", README, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


@pytest.mark.parametrize(
    "document", ["README.md", *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
)
def test_every_file_that_a_document_links_to_exists(document: str) -> None:
    path = ROOT / document
    for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", path.read_text()):
        assert (path.parent / target).exists(), target


def test_the_names_that_the_documentation_gives_as_examples_are_right() -> None:
    text = (ROOT / "docs/bucket.md").read_text()
    rows = re.findall(r"^\| `([^`]+)` \| `([^`]+)` \|$", text, re.MULTILINE)
    assert len(rows) >= 5
    for key, name in rows:
        assert output_name(key, 0, 1) == name
    assert output_name("request-1", 1, 2) == "request-1@2"
    assert output_name(None, 0, 1) == "@0"


def test_what_is_generated_is_up_to_date() -> None:
    assert [path.relative_to(ROOT) for path, _ in stale(ROOT)] == []


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """The files with generated parts, elsewhere."""
    for part in PARTS:
        (tmp_path / part.file).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / part.file, tmp_path / part.file)
    return tmp_path


def generate(root: Path, *options: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "docs.generate", "--root", str(root), *options]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    return ended.returncode, ended.stdout + ended.stderr


def test_a_part_that_is_stale_is_named_and_written_anew_and_nothing_else_is(copied: Path) -> None:
    readme = copied / "README.md"
    readme.write_text(readme.read_text().replace("`/webhooks/gemini`", "`/elsewhere`") + "By hand.\n")

    assert generate(copied, "--check") == (1, "README.md is stale: run `make docs`.\n")
    assert generate(copied) == (0, "Wrote README.md.\n")
    assert generate(copied, "--check") == (0, "")
    assert readme.read_text() == README + "By hand.\n"


def test_a_mark_that_is_gone_is_one_sentence(copied: Path) -> None:
    readme = copied / "README.md"
    readme.write_text(readme.read_text().replace("<!-- end settings -->", ""))

    assert generate(copied, "--check") == (
        1,
        "Error: README.md lacks a line of the two around its settings.\n",
    )


def test_every_option_of_every_command_is_in_the_reference() -> None:
    text = (ROOT / "docs/commands.md").read_text()
    sections = dict(re.findall(r"^##+ `([^`]+)`\n(.*?)(?=^##|\Z)", text, re.DOTALL | re.MULTILINE))

    assert {name.split()[0] for name in sections} == set(COMMANDS)
    for name, section in sections.items():
        command = main.get_command(
            main.make_context("batch-receiver", [], resilient_parsing=True), name.split()[0]
        )
        for word in name.split()[1:]:
            assert isinstance(command, click.Group)
            command = command.get_command(click.Context(command), word)
        assert command
        for option in (option for parameter in command.params for option in parameter.opts):
            if option.startswith("--"):
                assert option in section, (name, option)


def _anchors(path: Path) -> set[str]:
    """As GitHub makes them of titles."""
    titles = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize(
    "document", ["README.md", *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
)
def test_every_section_that_a_document_links_to_exists(document: str) -> None:
    path = ROOT / document
    for target, anchor in re.findall(r"\]\((?!https?://)([^)#]*)#([^)]+)\)", path.read_text()):
        assert anchor in _anchors(path.parent / target if target else path), f"{target}#{anchor}"


def test_what_a_newcomer_asks_is_answered_within_two_clicks() -> None:
    """The first is the README; the second a page of its table, or a command's help."""
    rows = [line.split("|")[1:-1] for line in _section("Where is the answer?").splitlines() if "?" in line]

    assert len(rows) >= 10
    for question, answer in rows:
        commands = [words.split() for words in re.findall(r"`batch-receiver ([^`]*)`", answer)]
        assert re.search(r"\]\([^)]+\)", answer) or commands, question
        assert all(words[0] in COMMANDS for words in commands), question


def test_every_page_is_linked_from_the_readme_or_from_a_page_that_is() -> None:
    seen, waiting = set[Path](), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        seen.add(page)
        for target in re.findall(r"\]\((?!https?://|#)([^)#]+\.md)", page.read_text()):
            found = (page.parent / target).resolve()
            if found not in seen and found.exists():
                waiting.append(found)

    assert set((ROOT / "docs").glob("*.md")) - seen == set()
