"""The examples of `docs/examples`, run as a reader would: as programs, on batches that the product has committed."""

import importlib.util
import json
import shutil
import subprocess
import sys
import urllib.parse
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.support.deployment import result_line
from tests.support.gemini import Gemini
from tests.support.processes import ROOT, Process
from tests.support.readers import readers_python
from tests.support.stores import Store, azurite, npm_program, seaweedfs
from workers.bucket.opening import open_bucket
from workers.results.naming import output_name

EXAMPLES = ROOT / "docs" / "examples"
KEYS = [
    *("a/b", "..", "img", "img.", "ключ", "😀", "100%", "a%2Fb", "KEY", "key", "_index", " ", "t\ty", "con"),
    *("x" * 300, "é" * 60, "(!'*)"),
]
BATCHES = ["b1", "batch"]

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def gemini(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gemini]:
    with closing(Gemini(tmp_path_factory.mktemp("gemini") / "log")) as found:
        for batch in [*BATCHES, "begun"]:
            found.put_batch(b"".join(result_line(key, f"Of {key}.") for key in KEYS), batch_id=batch)
        yield found


def filled(store: Store, gemini: Gemini, folder: Path) -> Store:
    """Two batches that are committed, and one that is not."""
    url = f"{store.url}/results"
    env = {**store.env, **gemini.env, "STORAGE_URL": url, "OUTPUTS": "objects,parquet"}
    for batch in [*BATCHES, "begun"]:
        process = Process(["process", batch], env, folder / f"{batch}.log")
        assert process.wait(60) == 0, process.output
    bucket = open_bucket(url, store.env)
    bucket.delete([name for name, _ in bucket.list("") if name.endswith(("begun/batch.json", "/begun.json"))])
    return store


@pytest.fixture(scope="module")
def s3_results(gemini: Gemini, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    folder = tmp_path_factory.mktemp("s3")
    with seaweedfs(folder) as store:
        yield filled(store, gemini, folder)


@pytest.fixture(scope="module")
def azure_results(gemini: Gemini, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    folder = tmp_path_factory.mktemp("azure")
    with azurite(folder) as store:
        yield filled(store, gemini, folder)


def run(program: str, example: str | Path, *args: str, env: Mapping[str, str]) -> list[Any]:
    """What it prints, each line read as JSON."""
    ended = subprocess.run(
        [program, EXAMPLES / example, *args],
        env={"PATH": str(Path(sys.executable).parent), **env},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ended.returncode == 0, ended.stderr
    return [json.loads(line) for line in ended.stdout.splitlines()]


EXPECTED = [[key, f"Of {key}."] for key in KEYS]


@pytest.mark.slow
def test_boto3_finds_every_result_by_the_manifest(s3_results: Store) -> None:
    assert run(sys.executable, "by_key.py", "tests", "results", "b1", env=s3_results.env) == EXPECTED


@pytest.mark.slow
def test_javascript_finds_every_result_by_the_manifest(s3_results: Store, tmp_path: Path) -> None:
    node = shutil.which("node")
    if not node:
        pytest.skip("needs node")
    home = Path(npm_program("azurite-blob")).parents[2]
    program = tmp_path / "by_key.mjs"
    (tmp_path / "node_modules").symlink_to(home / "node_modules")
    shutil.copy(EXAMPLES / "by_key.mjs", program)
    assert run(node, program, "tests", "results", "b1", env=s3_results.env) == EXPECTED


@pytest.mark.slow
@pytest.mark.parametrize("key", ["..", "img.", "100%", "é" * 60, "x" * 300])
def test_the_output_of_an_odd_key_is_found_without_the_manifest(s3_results: Store, key: str) -> None:
    ended = subprocess.run(
        [sys.executable, EXAMPLES / "odd_keys.py", "tests", "results", "b1", key],
        env=s3_results.env,
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout == f"Of {key}.\n"


def test_the_name_of_a_key_is_made_as_we_make_it() -> None:
    name_of = module("odd_keys").name_of
    for key in [*KEYS, ".", "...", "_.", "a.", "%" * 100, "aé" * 70]:
        assert name_of(key) == output_name(key, 0, 1)


@pytest.mark.slow
@pytest.mark.parametrize("example", ["with_pandas.py", "with_duckdb.py", "with_polars.py"])
def test_the_tables_of_committed_batches_are_read_and_no_others(s3_results: Store, example: str) -> None:
    batches = {"with_polars.py": BATCHES, "with_pandas.py": ["b1"]}.get(example, [])
    found = run(readers_python(), example, "tests/results", *batches, env=s3_results.env)
    assert found[0] == 2 * len(KEYS)
    assert found[1:] == ([len(KEYS)] if example == "with_pandas.py" else [])


@pytest.mark.slow
def test_pyarrow_reads_the_tables_of_committed_batches_and_no_others(s3_results: Store) -> None:
    assert run(sys.executable, "with_pyarrow.py", "tests/results", env=s3_results.env) == [2 * len(KEYS)]


@pytest.mark.slow
def test_azure_s_own_sdk_finds_every_result(azure_results: Store) -> None:
    names, *found = run(readers_python(), "with_azure.py", "tests", "results", "b1", env=azure_results.env)
    assert names == BATCHES
    assert found == EXPECTED


def test_a_notification_of_the_bucket_tells_of_a_commit_and_of_nothing_else() -> None:
    """The event's form is that of Amazon's documentation: `s3.object.key` is encoded as in a form."""
    committed = module("on_commit").committed
    keys = [
        "re sults/b1/batch.json",
        "re sults/b1/manifest.jsonl",
        "re sults/_index/2026-01-01/batch.json",
        "b2/batch.json",
    ]
    records = [
        {"s3": {"bucket": {"name": "tests"}, "object": {"key": urllib.parse.quote_plus(key, safe="/")}}}
        for key in keys
    ]
    assert committed({"Records": records}) == [("tests", "re sults", "b1"), ("tests", "", "b2")]
    assert committed({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "tests"}) == []


def test_every_example_is_named_in_the_documentation() -> None:
    text = (ROOT / "docs" / "bucket.md").read_text()
    for path in EXAMPLES.iterdir():
        if path.is_file():
            assert f"(examples/{path.name})" in text


def module(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec
    assert spec.loader
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found
