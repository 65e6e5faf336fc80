"""Every block of code in README.md and docs/ is run here, held by a test that it names, or says which cloud it needs.

A comment before a block (or before a page's title, for all of its blocks) says so: `<!-- cloud: what it needs -->`,
`<!-- held by: tests/….py::test_… -->`. What has none is in `RUNS`; text, diagrams and documents need neither.
"""

import ast
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.sender.conftest import request_line, write_lines
from tests.support.deployment import result_line
from tests.support.gemini import Gemini
from tests.support.processes import ROOT, Process
from tests.support.readers import readers_python
from tests.support.waiting import wait_until

PAGES = ["README.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))]
NO_CODE = {"", "text", "mermaid"}
_BLOCK = re.compile(
    r"^(?: *<!-- ([a-z ]+): ([^\n]+) -->\n)?( *)```(\w*)\n(.*?)^\3```$", re.DOTALL | re.MULTILINE
)
_OF_THE_PAGE = re.compile(r"\A<!-- (cloud): ([^\n]+) -->\n")

pytestmark = pytest.mark.timeout(400)


class Block(NamedTuple):
    page: str
    language: str
    code: str
    mark: str
    about: str

    @property
    def name(self) -> str:
        return f"{self.page}: {self.code.splitlines()[0].strip()}"


def blocks_of(page: str, text: str) -> Iterator[Block]:
    of_the_page = _OF_THE_PAGE.match(text)
    for found in _BLOCK.finditer(text):
        mark, about, indent, language, code = found.groups()
        if not mark and of_the_page:
            mark, about = of_the_page.groups()
        yield Block(
            page, language, re.sub(rf"^{indent}", "", code, flags=re.MULTILINE), mark or "", about or ""
        )


BLOCKS = [block for page in PAGES for block in blocks_of(page, (ROOT / page).read_text())]


@dataclass(frozen=True, slots=True)
class Run:
    """`beside` runs meanwhile; what does not end by itself is ended once it says `until`; `says` is its output."""

    beside: tuple[str, ...] = ()
    until: str = ""
    says: str = ""
    changes: dict[str, str] = field(default_factory=dict)


SUBMIT = Run(beside=("work",), says=r"requests\.jsonl is good(.|\n)*6 requests are batches/")
RUNS = {
    "README.md: export GEMINI_API_KEY=…": Run(says="secrets/webhook"),
    "README.md: WEBHOOK_SIGNING_SECRET_FILE=secrets/webhook REDIS_URL=redis://… batch-receiver serve --host 0.0.0.0"
    " --port 8080": Run(until="listening on"),
    "README.md: export GEMINI_API_KEY=… REDIS_URL=redis://… STORAGE_URL=s3://my-bucket/gemini": Run(
        until="event=started|event=work|started"
    ),
    "README.md: import json, pathlib": Run(says=r"k0 succeeded outputs/k0\.json"),
    "README.md: batch-receiver check requests.jsonl --model gemini-3.5-flash": SUBMIT,
    "README.md: REDIS_URL=redis://… STORAGE_URL=s3://my-bucket/gemini batch-receiver console   #"
    " http://127.0.0.1:8090": Run(until="listening on"),
    "docs/console.md: curl -s 'http://127.0.0.1:8090/batches.json?state=given-up&since=24h'": Run(
        beside=("console",), says=r'\{"'
    ),
    "docs/emulator.md: batch-receiver emulator --seconds 5": Run(until="listening on"),
    "docs/emulator.md: curl $GOOGLE_GEMINI_BASE_URL/_emulator/faults \\": Run(says='"kind": ?"cut"'),
    "docs/projects.md: batch-receiver register --project search --url https://hooks.example.com/webhooks/search"
    " --secret-file search.whsec": Run(says="search.whsec"),
    "docs/submit.md: export GEMINI_API_KEY=… STORAGE_URL=s3://my-bucket/gemini": SUBMIT,
    "docs/submit.md: import csv, json, time": Run(changes={"time.sleep(30)": "time.sleep(0.2)"}),
    "docs/quickstart.md: batch-receiver emulator --port 8081 --seconds 2": Run(
        until="listening on", changes={"--port 8081": "--port 0"}
    ),
    "docs/quickstart.md: export GOOGLE_GEMINI_BASE_URL=http://127.0.0.1:8081 GEMINI_API_KEY=any": Run(
        says='"text": "You asked:'
    ),
    "docs/dataset.md: -- DuckDB": Run(says="succeeded"),
    "docs/dataset.md: # pandas": Run(changes={"# Spark\nspark.": "# spark."}),
    "docs/dataset.md: select * from 'results/*/dataset/*.parquet' where batch in (select batch from"
    " read_json('results/*/batch.json'));": Run(says="k0"),
}


class World:
    """A folder in which a reader of the documentation might stand, and what runs around it."""

    def __init__(self, folder: Path, gemini: Gemini, redis_url: str, start: Callable[..., Process]) -> None:
        self.folder, self.gemini, self._start = folder, gemini, start
        self.storage = (folder / "results").as_uri()
        self.env = {
            **gemini.env,
            "STORAGE_URL": self.storage,
            "REDIS_URL": redis_url,
            "OUTPUTS": "objects,parquet",
        }
        self.redis_url = redis_url
        self.console = ""
        with socket.create_server(("127.0.0.1", 0)) as unused:
            self.port = unused.getsockname()[1]

    def furnish(self) -> None:
        """A committed batch of requests that lie beside it, and projects."""
        keys = [f"k{number}" for number in range(6)]
        write_lines(self.folder / "requests.jsonl", map(request_line, keys))
        self.gemini.put_batch(b"".join(map(result_line, keys)), batch_id="abc123")
        assert self._start("process", "abc123", env=self.env).wait(60) == 0
        (self.folder / "secrets").mkdir(mode=0o700)
        (self.folder / "secrets/webhook").write_text("whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=\n")
        (self.folder / "secrets/webhook").chmod(0o600)
        (self.folder / "search.key").write_text(self.gemini.api_key)
        (self.folder / "projects.toml").write_text(
            '[projects.search]\nsigning_secret_file = "search.whsec"\napi_key_file = "search.key"\n'
            f'storage = "{self.storage}"\n'
        )

    @contextmanager
    def beside(self, commands: tuple[str, ...]) -> Iterator[None]:
        for command in commands:
            port = ["--port", "0"] if command == "console" else []
            # What is submitted here is announced by nobody.
            process = self._start(command, *port, env={**self.env, "RECONCILE_INTERVAL_SECONDS": "1"})
            if command == "console":
                self.console = process.wait_for_output(r"listening on http://(\S+)")[1].rstrip("/.")
        yield

    def script(self, block: Block, run: Run) -> str:
        """The block with the places of this world."""
        changes = {
            "redis://…": self.redis_url,
            "GEMINI_API_KEY=…": f"GEMINI_API_KEY={self.gemini.api_key}",
            "s3://my-bucket/gemini": self.storage,
            "127.0.0.1:8090": self.console or "127.0.0.1:8090",
            "--host 0.0.0.0 --port 8080": "--host 127.0.0.1 --port 0",
            "batch-receiver console": "batch-receiver console --port 0",
            "http://127.0.0.1:8081 GEMINI_API_KEY=any": f"{self.gemini.url} GEMINI_API_KEY={self.gemini.api_key}",
            "redis://127.0.0.1:6379/0": self.redis_url,
            "127.0.0.1:8080": f"127.0.0.1:{self.port}",
            "--port 8080": f"--port {self.port}",
            **run.changes,
        }
        code = block.code
        for old, new in changes.items():
            code = code.replace(old, new)
        return code

    def command(self, block: Block, script: str) -> list[str]:
        if block.language == "sh":
            return ["bash", "-euc", script]
        if block.language == "sql":
            queries = [each for each in re.split(r";\s*", re.sub("--.*", "", script)) if each.strip()]
            code = "import duckdb, sys\nfor each in sys.argv[1:]: print(duckdb.sql(each))"
            return [readers_python(), "-c", code, *queries]
        if block.page == "docs/dataset.md":
            return [readers_python(), "-c", f"import pandas, pathlib, polars, pyarrow.dataset\n{script}"]
        return [sys.executable, "-c", script]

    def run(self, block: Block, run: Run) -> str:
        """What it prints, once it has ended well or has said what it is to say."""
        env = {
            **os.environ,
            **{name: value for name, value in self.env.items() if name != "OUTPUTS"},
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
        }
        if "--project" in block.code:
            env["PROJECTS_FILE"] = "projects.toml"
        log = self.folder / "block.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                self.command(block, self.script(block, run)),
                cwd=self.folder,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                if run.until:
                    wait_until(lambda: re.search(run.until, log.read_text()), seconds=60, what=run.until)
                    os.killpg(process.pid, signal.SIGINT)
                process.wait(200)
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
        said = log.read_text()
        assert run.until or process.returncode == 0, said
        assert "Traceback" not in said, said
        return said


@pytest.fixture
def world(tmp_path: Path, gemini: Gemini, redis_url: str, start_process: Callable[..., Process]) -> World:
    found = World(tmp_path / "world", gemini, redis_url, start_process)
    found.folder.mkdir()
    found.furnish()
    return found


def to_run() -> list[Block]:
    return [each for each in BLOCKS if not each.mark and each.language not in NO_CODE | {"json", "toml"}]


@pytest.mark.slow
@pytest.mark.parametrize("block", to_run(), ids=[each.name for each in to_run()])
def test_a_block_does_what_its_reader_expects(block: Block, world: World) -> None:
    run = RUNS[block.name]

    with world.beside(run.beside):
        said = world.run(block, run)

    assert re.search(run.says, said), said


def test_every_block_is_run_or_says_who_holds_it_or_which_cloud_it_needs() -> None:
    assert len(BLOCKS) > 30
    assert {each.name for each in to_run()} == RUNS.keys()
    assert {each.mark for each in BLOCKS} <= {"", "cloud", "held by"}


@pytest.mark.parametrize(
    "block", [each for each in BLOCKS if each.mark == "held by"], ids=lambda each: each.name
)
def test_a_test_that_a_block_names_exists(block: Block) -> None:
    path, _, test = block.about.partition("::")
    tree = ast.parse((ROOT / path).read_text())

    assert test in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize(
    "block", [each for each in BLOCKS if each.language in {"json", "toml"}], ids=lambda each: each.name
)
def test_a_document_that_is_shown_is_one(block: Block) -> None:
    if block.language == "toml":
        assert tomllib.loads(block.code)
    else:
        whole = block.code if block.code.startswith(("{", "[")) else f"{{{block.code}}}"
        assert json.loads(whole)


def test_a_mark_is_found_before_a_block_and_before_a_page() -> None:
    text = "# A\n\n<!-- cloud: AWS -->\n```sh\naws s3 ls\n```\n\n- one\n\n  ```sh\n  true\n  ```\n"

    assert [(each.mark, each.about, each.code) for each in blocks_of("p", text)] == [
        ("cloud", "AWS", "aws s3 ls\n"),
        ("", "", "true\n"),
    ]
    assert [each.mark for each in blocks_of("p", f"<!-- cloud: GCP -->\n{text}")] == ["cloud", "cloud"]
