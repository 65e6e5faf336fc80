"""Every sentence that the product says where something is wrong is in docs/troubleshooting.md, and no other."""

import html
import re
from pathlib import Path

import pytest

from docs.sentences import sentences
from tests.support.processes import ROOT

PAGE = (ROOT / "docs/troubleshooting.md").read_text()
# Found by their form, and said where nothing is wrong, or only at the end of another sentence.
OTHERS = {
    "The model, such as gemini-3.5-flash.",
    " `batch-receiver replay --refetch` fetches them once more, while Gemini has their file.",
    "next try …",
}


def rows() -> list[list[str]]:
    """The three columns of each row."""
    lines = [line for line in PAGE.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return [row for row in cells if row[0] not in {"it says", "---"}]


def in_the_page() -> list[str]:
    return [
        html.unescape(text).replace("\\|", "|").replace("\\*", "*")
        for row in rows()
        for text in row[0].split("<br>")
    ]


def test_every_sentence_of_the_code_is_in_the_page_and_no_other() -> None:
    said = {each.text for each in sentences()} - OTHERS

    assert len(said) > 200
    assert said - set(in_the_page()) == set()
    assert set(in_the_page()) - said == set()


def test_a_sentence_stands_once_and_each_has_what_it_means_and_what_to_do() -> None:
    assert len(in_the_page()) == len(set(in_the_page()))
    assert all(len(row) == 3 and all(row) for row in rows())


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ('raise SettingsError(f"{name} can\'t be read: try again.")', "… can't be read: try again."),
        ('raise errors.Refused("It is not there any more.")', "It is not there any more."),
        ('fail("It was not done." if x else "It is gone.")', "It is gone."),
        ('WORDS = "The address {host} is taken: give another."', "The address … is taken: give another."),
        ('def f():\n    yield f"{count} lines are odd."', "… lines are odd."),
        ('class Mine(Refused):\n    pass\nraise Mine("Not for us, this one.")', "Not for us, this one."),
    ],
    ids=["error", "attribute", "choice", "constant", "warning", "own"],
)
def test_a_sentence_is_found_however_it_is_said(tmp_path: Path, source: str, text: str) -> None:
    for room in ("receiver", "workers", "sender", "console"):
        (tmp_path / room).mkdir()
    errors = "class SettingsError(Exception):\n    pass\n\n\nclass Refused(Exception):\n    pass\n"
    (tmp_path / "workers/errors.py").write_text(errors)
    (tmp_path / "workers/some.py").write_text(f"{source}\n")

    assert text in {each.text for each in sentences(tmp_path)}
