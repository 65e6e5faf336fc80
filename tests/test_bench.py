"""The benchmarks run, and their rivals do what they are said to do. Their figures are nobody's business here."""

import io
import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from rich.console import Console

from bench import acknowledge, data, folder, growth, memory, pages, small, stack
from bench import s3 as to_s3
from bench.measure import Place, fresh_folder, take_turns, timed_process
from bench.slow_bucket import delayed
from bench.stack import Stack
from bench.table import Row, compared, save, show
from tests.support.s3 import S3

pytestmark = pytest.mark.slow

KEYS = 30


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    path = tmp_path / "pack"
    data.write_pack(path, data.result_lines(KEYS))
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with stack.running(tmp_path_factory.mktemp("stack")) as started:
        yield started


def written(target: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in target.iterdir()}


def test_result_lines_are_always_the_same_and_of_the_size_asked_for() -> None:
    lines = list(data.result_lines(KEYS))

    assert lines == list(data.result_lines(KEYS))
    assert all(data.SMALL_LINE <= len(line) < data.SMALL_LINE * 1.1 for line in lines)
    assert b"".join(data.blocks(lines)) == b"".join(lines)


def test_every_side_of_the_folder_row_runs_and_leaves_nothing(tmp_path: Path) -> None:
    taken = folder.measure(Place(tmp_path), KEYS, rounds=1)

    assert {
        "ours",
        folder.DOCUMENTATION,
        folder.STREAMING,
        folder.BARE,
        folder.BARE_PROCESSES,
    } <= taken.keys()
    assert all(seconds > 0 for each in taken.values() for seconds in each)
    assert not list(tmp_path.glob("side-*"))


def test_what_we_write_is_what_the_bare_loops_write_and_what_the_other_rivals_read(
    run: Stack, tmp_path: Path, pack: Path
) -> None:
    lines = list(data.result_lines(KEYS))
    bucket = tmp_path / "bucket"
    with run.work(2, bucket.as_uri(), PART_BYTES="8KiB"):
        results = run.store(lines, KEYS)
        batch = run.new_batch(results)
        assert run.seconds_to_commit(bucket.as_uri(), batch) > 0
        ours = written(bucket / batch / "outputs")
        for name in ("documentation_loop", "streaming_loop"):
            target = tmp_path / name
            target.mkdir()
            timed_process("bench.rivals", name, results.file, target, env=run.gemini.env)
            responses = {each: json.loads(content) for each, content in written(target).items()}
            assert responses == {each: json.loads(content)["response"] for each, content in ours.items()}

    assert ours == dict(data.read_pack(pack))


@pytest.mark.parametrize(("processes", "threads"), [(1, 4), (2, 2)])
def test_the_bare_loop_writes_the_whole_pack(
    tmp_path: Path, pack: Path, processes: int, threads: int
) -> None:
    target = tmp_path / "target"
    target.mkdir()

    timed_process("bench.rivals", "bare_writes", pack, target, str(processes), str(threads))

    assert written(target) == dict(data.read_pack(pack))


@pytest.mark.skipif(not shutil.which("gcc"), reason="no C compiler")
def test_the_c_loop_writes_the_whole_pack(tmp_path: Path, pack: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()

    timed_process(folder.compiled(tmp_path), pack, target, "2")

    assert written(target) == dict(data.read_pack(pack))


@pytest.mark.parametrize("name", ["obstore_puts", "boto3_puts"])
def test_the_s3_rivals_store_the_whole_pack(s3: S3, pack: Path, name: str) -> None:
    url = s3.fresh_url()

    timed_process("bench.rivals_s3", name, pack, url, "2", "4", env=s3.env)

    store = s3.raw_store(url.removeprefix(s3.url + "/"))
    stored = {meta["path"]: bytes(store.get(meta["path"]).bytes()) for each in store.list() for meta in each}
    assert stored == dict(data.read_pack(pack))


def test_puts_alone_are_measured_to_a_server_and_to_stubs_that_answer_late(tmp_path: Path) -> None:
    found = dict(to_s3.measure_puts(tmp_path, KEYS, KEYS, rounds=1))

    assert "SeaweedFS" in found
    assert len(found) == (3 if shutil.which("gcc") else 1)
    assert all(taken.keys() == {"ours", to_s3.BARE, to_s3.THREADED} for taken in found.values())
    for place, taken in found.items():
        if "30 ms" in place:
            assert all(seconds > 0.03 for (seconds,) in taken.values())


def test_our_puts_store_the_whole_pack(s3: S3, pack: Path) -> None:
    url = s3.fresh_url()

    timed_process("bench.rivals_s3", "our_puts", pack, f"{url}/outputs", "2", "4", env=s3.env)

    store = s3.raw_store(url.removeprefix(s3.url + "/"))
    assert len(list(store.list("outputs").collect())) == KEYS


def test_ours_to_s3_ends_with_the_commit(run: Stack, s3: S3) -> None:
    results = run.store(data.result_lines(KEYS), KEYS)

    assert to_s3.ours(run, s3, results, workers=2) > 0


def test_a_relay_holds_answers_back(s3: S3) -> None:
    port = int(s3.endpoint.rpartition(":")[2])
    with delayed(port, 0.1) as relay:
        far = S3(endpoint=f"http://127.0.0.1:{relay}")
        began = time.perf_counter()
        far.raw_store().put("far", b"object")

        assert time.perf_counter() - began >= 0.1


def test_every_acknowledged_event_of_a_load_is_a_job(run: Stack) -> None:
    taken = acknowledge.measure(run, 4, seconds=0.2, rounds=1)

    assert all(each.answers and not each.not_200 for loads in taken.values() for each in loads)


def test_a_steady_load_sends_what_is_due(run: Stack) -> None:
    with run.serve() as (url, _):
        loaded = acknowledge.load(urlsplit(url).port or 0, 4, seconds=0.2, per_second=200)

    assert loaded.answers == 40
    assert not loaded.not_200


def test_memory_is_watched_in_every_process_of_the_pool(run: Stack, tmp_path: Path) -> None:
    (measured,) = memory.measure(run, tmp_path / "bucket", 400_000)

    assert measured.keys == 20
    assert measured.peak.bytes > 10_000_000
    assert len(measured.peak.processes) >= 3  # the pool and its two workers
    assert 0 < measured.first_object <= measured.seconds


def test_sides_take_turns_and_every_second_round_goes_backwards() -> None:
    order: list[str] = []

    def side(name: str) -> float:
        order.append(name)
        return 1.0

    taken = take_turns({"a": lambda: side("a"), "b": lambda: side("b")}, rounds=2)

    assert order == ["a", "b", "b", "a"]
    assert taken == {"a": [1.0, 1.0], "b": [1.0, 1.0]}


def test_a_ratio_is_the_median_of_the_rounds() -> None:
    row = compared("what", [1.0, 1.0, 2.0], "rival", [3.0, 4.0, 2.0], limit="nothing", least=3.0)

    assert row.ratio == 3.0
    assert row.met


def test_a_fresh_folder_is_gone_afterwards(tmp_path: Path) -> None:
    with fresh_folder(tmp_path) as new:
        (new / "file").touch()

    assert not list(tmp_path.iterdir())


def test_the_table_names_what_was_missed_and_the_machine_but_no_host(tmp_path: Path) -> None:
    row = Row("what", "1 s", "rival", "2 s", 2.0, "≥ 4", met=False, limit="the disk")
    console = Console(width=160, record=True, file=io.StringIO())

    show([row], console)
    save([row], tmp_path / "rows.json")

    text = console.export_text()
    assert "≥ 4 ✗" in text
    assert "2.00" in text
    assert os.uname().nodename not in text
    assert json.loads((tmp_path / "rows.json").read_text())["rows"][0]["limit"] == "the disk"


def test_every_side_of_the_small_batches_runs(tmp_path: Path) -> None:
    taken = small.measure(Place(tmp_path), 3, rounds=1)

    assert set(taken) == {folder.OURS, small.EMPTY_JOBS}
    assert all(seconds > 0 for each in taken.values() for seconds in each)


def test_pages_are_measured_calm_and_while_deliveries_arrive(run: Stack, tmp_path: Path) -> None:
    found = pages.measure(run, tmp_path, batches=60, keys=KEYS, rounds=2, seconds=1)

    assert len(found) > 8
    assert all(page.calm and page.loaded for page in found)
    assert found[0].row().startswith("| `/batches` | ")


def test_growth_is_measured(run: Stack, tmp_path: Path) -> None:
    grown = growth.measure(run, tmp_path, KEYS, "parquet")

    assert grown.seconds > 0
    assert grown.cpu > 0
    assert grown.largest > 1_000_000
    assert grown.row("parquet").startswith(f"| {KEYS} | parquet |")
