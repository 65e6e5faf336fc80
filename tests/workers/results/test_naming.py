import json
import random
import shutil
import subprocess
from pathlib import Path
from urllib.parse import quote, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.results.naming import output_name

REFERENCE = Path(__file__).with_name("naming_reference.mjs")

# Lone surrogates are no text: see the test of their own.
KEYS = st.text(st.characters(exclude_categories=["Cs"])) | st.text("%@._-~/aA0é", max_size=300)
OCCURRENCES = st.integers(1, 10**9)


@pytest.mark.parametrize(
    ("key", "occurrence", "name"),
    [
        ("request-1", 1, "request-1"),
        ("request-1", 2, "request-1@2"),
        ("A.b_c~d-9", 1, "A.b_c~d-9"),
        (".", 1, "%2E"),
        ("..", 1, "%2E%2E"),
        ("...", 1, "%2E.%2E"),
        ("img.", 1, "img%2E"),
        ("img.", 2, "img%2E@2"),
        ("img..", 1, "img.%2E"),
        ("a.b", 1, "a.b"),
        ("_.", 1, "%5F%2E"),
        (".hidden", 1, "%2Ehidden"),
        ("_work", 1, "%5Fwork"),
        ("a/b", 1, "a%2Fb"),
        ("../../etc/passwd", 1, "%2E.%2F..%2Fetc%2Fpasswd"),
        ("a b", 1, "a%20b"),
        ("@5", 1, "%405"),
        ("request-1@2", 1, "request-1%402"),
        ("50%", 1, "50%25"),
        ("\x00\n", 1, "%00%0A"),
        ("!'()*", 1, "%21%27%28%29%2A"),
        ("é", 1, "%C3%A9"),
        ("😀", 1, "%F0%9F%98%80"),
        ("CON", 1, "CON"),
    ],
)
def test_a_key_is_percent_encoded_with_dots_at_its_ends_and_a_leading_underscore(
    key: str, occurrence: int, name: str
) -> None:
    assert output_name(key, 0, occurrence) == name


@pytest.mark.parametrize("key", [None, ""])
def test_a_result_without_a_key_is_named_by_its_index(key: str | None) -> None:
    assert output_name(key, 7, 1) == "@7"


def test_two_hundred_safe_characters_are_kept_and_one_more_is_hashed() -> None:
    assert output_name("a" * 200, 0, 1) == "a" * 200
    assert output_name("a" * 197 + ".", 0, 1) == "a" * 197 + "%2E"
    assert output_name("a" * 199 + ".", 0, 1).startswith("a" * 160 + "@")
    assert output_name("a" * 201, 0, 1) == "a" * 160 + "@a92efd82109373e58f9a2056dee01e80"


@pytest.mark.parametrize(("lead", "kept"), [(158, 158), (159, 159), (157, 160)])
def test_an_escape_cut_in_two_is_dropped_from_a_long_name(lead: int, kept: int) -> None:
    name = output_name("a" * lead + "/" * 50, 0, 1)
    assert name.index("@") == kept
    assert len(name) == kept + 33


def test_a_key_of_ten_thousand_characters_gets_a_short_name() -> None:
    assert len(output_name("😀" * 10_000, 0, 1)) <= 193


def test_long_keys_with_a_common_beginning_get_different_names() -> None:
    assert output_name("x" * 10_000 + "a", 0, 1) != output_name("x" * 10_000 + "b", 0, 1)


def test_a_lone_surrogate_is_refused() -> None:
    with pytest.raises(UnicodeEncodeError):
        output_name("a\ud800", 0, 1)


@given(st.lists(st.tuples(KEYS.filter(bool), st.integers(1, 3)), unique=True, max_size=30))
def test_no_two_results_share_a_name(results: list[tuple[str, int]]) -> None:
    names = {output_name(key, 0, occurrence) for key, occurrence in results}
    assert len(names) == len(results)


@given(st.integers(0, 10**9), KEYS.filter(bool), OCCURRENCES)
def test_a_result_without_a_key_never_meets_one_with_a_key(index: int, key: str, occurrence: int) -> None:
    assert output_name(None, index, 1) != output_name(key, index, occurrence)


@given(KEYS, OCCURRENCES)
def test_a_name_is_one_path_segment_that_stays_in_its_folder(key: str, occurrence: int) -> None:
    name = output_name(key, 0, occurrence)
    assert name.isascii()
    assert name.isprintable()
    assert not set(name) & set("/\\: ")
    assert name[0] not in "._"
    assert name[-1] != "."


@given(KEYS, OCCURRENCES)
def test_a_file_name_has_at_most_255_bytes(key: str, occurrence: int) -> None:
    assert len(f"{output_name(key, 0, occurrence)}.json".encode()) <= 255


@given(KEYS.filter(bool))
def test_a_short_name_is_what_quote_gives_and_gives_its_key_back(key: str) -> None:
    name = output_name(key, 0, 1)
    if "@" not in name:
        assert unquote(name) == key
        assert key[0] in "._" or key[-1] == "." or name == quote(key, safe="")


def test_javascript_written_from_the_documentation_names_alike() -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    chance = random.Random(3)
    alphabets = ["ab/._@%", "!'()*~-", "\x00\x1f\x7f\u2028", "éß中文🙂\U0010ffff", "Aa0"]
    keys: list[str | None] = [
        None,
        "",
        ".",
        "..",
        "_",
        "._",
        "a.",
        "a" * 199 + ".",
        "é" * 34,
        "a" * 200,
        "a" * 201,
        "%" * 67,
    ]
    keys += ["".join(chance.choices("".join(alphabets), k=chance.randrange(260))) for _ in range(3000)]
    keys += ["a" * pad + "/" * 60 for pad in range(150, 165)]
    results = [(key, index, 1 + index % 3 if key else 1) for index, key in enumerate(keys)]
    answer = subprocess.run(
        [node, str(REFERENCE)], input=json.dumps(results).encode(), capture_output=True, check=True
    )
    assert json.loads(answer.stdout) == [output_name(*result) for result in results]
