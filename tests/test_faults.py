"""One named fault at a time, on real processes: what is killed, lost, full, refused or late, and what comes of it.

`docs/faults.md` says the same for operators.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import psutil
import pytest
from redis import Redis

from receiver.errors import SignatureRefused
from receiver.signatures import Keys, parse_secrets, verify
from tests.chaos.processes import RedisServer, crew, kill
from tests.conftest import StartProcess
from tests.receiver import signing
from tests.support.deployment import Deployment, contents, result_line
from tests.support.gemini import Gemini
from tests.support.processes import ROOT, Process
from tests.support.syscalls import CALLS, Story
from tests.support.waiting import wait_until
from workers import process as processing
from workers.bucket.folder import Folder
from workers.contract import Announced, Announcement, Outcome, Queues, Trigger
from workers.errors import GeminiUnavailable
from workers.gemini.access import Access, Secret
from workers.gemini.client import Gemini as Client
from workers.orphans import requeue_orphans
from workers.own_jobs import HEARTBEAT_SECONDS, OwnQueue
from workers.process import Result, Tools
from workers.retry import decide
from workers.summary import read_summary
from workers.timetable import due

# Two minutes are promised, less some seconds for the commit itself.
pytestmark = pytest.mark.slow

TAKEN_UP_SECONDS = 110.0
PARTS = {"PART_BYTES": "50000"}
NOW = 1_700_000_000.0


class Halfway:
    """A batch of some twenty parts that workers have begun with, and its bucket as it would be undisturbed."""

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        self.raw = b"".join(result_line(f"request-{n % 950}", "x" * 800) for n in range(1000))
        self.batch = deployment.gemini.put_batch(self.raw)
        undisturbed = deployment.folder.with_name("undisturbed")
        made = deployment.run("process", self.batch, STORAGE_URL=undisturbed.as_uri(), **PARTS)
        assert made.returncode == 0, made.output
        self._expected = contents(undisturbed / self.batch)
        deployment.gemini.fault("throttle", self.batch, times=1, value=500_000)

    def begin(self, *options: str, **settings: str) -> Process:
        """A pool that works on it: some parts are done, the download is not."""
        pool = self.deployment.work(*options, **PARTS, **settings)
        self.deployment.run("replay", self.batch)
        wait_until(lambda: len(self.done_parts()) >= 3, what="three done parts")
        return pool

    def done_parts(self) -> list[int]:
        folder = self.deployment.folder / "_work" / self.batch / "done"
        return [int(path.name.split("-")[0]) for path in folder.glob("*")]

    def outputs(self, part: int) -> list[Path]:
        """Of the first result of each key, as no other is written under that name."""
        here = self.deployment.batch_folder(self.batch)
        lines = (here / f"raw/part-{part:05d}.jsonl").read_text().splitlines()
        return [here / "outputs" / f"{json.loads(line)['key']}.json" for line in lines]

    def assert_whole(self, seconds: float = TAKEN_UP_SECONDS) -> None:
        """Committed within that time, as if nothing had happened, and nothing left over."""
        self.deployment.wait_for_commit(self.batch, seconds=seconds)
        # Whoever else was at work on it may be in the middle of a file yet.
        wait_until(lambda: not any(self.deployment.folder.glob(".staging/*")), what="an empty .staging")
        self.deployment.wait_until_tidy(self.batch)
        assert contents(self.deployment.batch_folder(self.batch)) == self._expected


@pytest.fixture
def halfway(deployment: Deployment) -> Halfway:
    return Halfway(deployment)


def one_horse(halfway: Halfway, pool: Process) -> tuple[int, int]:
    """The worker and the work-horse of a job that runs."""

    def look() -> list[tuple[int, int]]:
        found = crew(pool, halfway.deployment.env["REDIS_URL"])
        return list(zip(found.busy, found.horses, strict=True))

    return wait_until(look, what="a work-horse")[0]


def is_alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def downloads(gemini: Gemini, batch: str) -> list[str | None]:
    """The ranges that were asked for of a batch's result file."""
    return [each["range"] for each in gemini.requests(f"files/batch-{batch}")]


def looks(gemini: Gemini, batch: str) -> int:
    return len(gemini.requests(f"batches/{batch}"))


def shown(deployment: Deployment, batch: str) -> tuple[str, str]:
    """State and reason, as `status` tells them."""
    found = json.loads(deployment.run("status", batch, "--json").output)
    return found["state"], " ".join(job["reason"] or "" for job in found["jobs"])


def wait_for_failure(redis: Redis, batch: str) -> None:
    wait_until(
        lambda: redis.hget(f"rq:job:batch-receiver-batch-{batch}", "status") == b"failed", what="the failure"
    )


def test_a_killed_work_horse_is_replaced_at_once(halfway: Halfway) -> None:
    pool = halfway.begin("--workers", "2")

    kill(one_horse(halfway, pool)[1])

    halfway.assert_whole(seconds=60)


def test_what_a_killed_worker_ran_and_what_it_had_just_taken_are_both_taken_up(
    halfway: Halfway, redis_client: Redis
) -> None:
    deployment = halfway.deployment
    taken = deployment.gemini.put_batch(result_line("a"))
    deployment.run("replay", taken)
    # BLPOP has given the job to a worker that is killed before it notes what it got.
    assert redis_client.lpop("rq:queue:batch-receiver-batches") == f"batch-receiver-batch-{taken}".encode()
    assert redis_client.hget(f"rq:job:batch-receiver-batch-{taken}", "status") == b"queued"
    pool = halfway.begin("--workers", "2")
    worker, horse = one_horse(halfway, pool)

    kill(worker)

    wait_until(lambda: not is_alive(horse), seconds=20, what="the end of the worker's horse")
    halfway.assert_whole()
    deployment.wait_for_commit(taken, seconds=TAKEN_UP_SECONDS)


def test_a_killed_pool_that_held_the_locks_of_maintenance_is_followed_in_time(
    halfway: Halfway, redis_client: Redis
) -> None:
    pool = halfway.begin("--workers", "2")
    pool.kill()
    for name in ("batch-receiver-batches", "batch-receiver-parts"):
        key = OwnQueue(name, connection=redis_client).registry_cleaning_key
        redis_client.set(key, 1, ex=HEARTBEAT_SECONDS)
    redis_client.set("batch-receiver:orphans:lock", 1, ex=HEARTBEAT_SECONDS)

    halfway.deployment.work("--workers", "2", **PARTS)

    halfway.assert_whole()


def test_redis_killed_in_the_middle_of_a_batch_comes_back_with_its_jobs(
    start_process: StartProcess, gemini: Gemini, tmp_path: Path
) -> None:
    server = RedisServer(tmp_path / "redis")
    server.start()
    try:
        halfway = Halfway(Deployment(start_process, gemini, server.url, tmp_path / "bucket"))
        halfway.begin("--workers", "2")

        server.end(signal.SIGKILL)
        server.start()

        halfway.assert_whole()
    finally:
        server.end(signal.SIGKILL)


def test_a_redis_that_was_emptied_costs_nothing_that_was_done(halfway: Halfway, redis_client: Redis) -> None:
    pool = halfway.begin("--workers", "2", RECONCILE_INTERVAL_SECONDS="1")
    done = halfway.done_parts()
    before = {path: path.stat().st_mtime_ns for part in done for path in halfway.outputs(part)}

    pool.kill()
    redis_client.flushall()
    halfway.deployment.work("--workers", "2", RECONCILE_INTERVAL_SECONDS="1", **PARTS)

    halfway.assert_whole(seconds=60)
    assert halfway.deployment.wait_for_commit(halfway.batch)["trigger"] == "replay"
    assert {path: path.stat().st_mtime_ns for path in before} == before
    undisturbed, first, *later = downloads(halfway.deployment.gemini, halfway.batch)
    assert (undisturbed, first) == (None, None)
    stored = max(done) * int(PARTS["PART_BYTES"])
    assert all(int(re.findall(r"bytes=(\d+)-", str(asked))[0]) >= stored for asked in later)


def test_three_at_once_on_one_batch_end_in_the_same_bucket(halfway: Halfway, redis_client: Redis) -> None:
    halfway.begin("--workers", "3")

    redis_client.delete(f"rq:job:batch-receiver-batch-{halfway.batch}")
    again = Queues(redis_client).announce([Announcement(halfway.batch, Trigger.REPLAY)])
    assert again == [Outcome.ACCEPTED]
    halfway.deployment.run("process", halfway.batch, **PARTS)

    halfway.assert_whole(seconds=60)


def test_a_signature_is_judged_by_the_clock_and_five_minutes_off_is_too_much() -> None:
    body = signing.event()
    given = signing.raw(signing.headers(signing.v1(body, at=NOW), at=NOW))
    keys = Keys(secrets=parse_secrets(signing.SECRET), tolerance_seconds=300)

    for jump in (-299, 0, 299):
        assert verify(given, body, NOW + jump, keys).payload == body
    for jump in (-301, 301, 86_400, -86_400):
        with pytest.raises(SignatureRefused):
            verify(given, body, NOW + jump, keys)


def test_a_clock_that_jumps_neither_hurries_retries_nor_stops_them_early() -> None:
    error = GeminiUnavailable("away")

    for jump in (-86_400.0, -1.0, 0.0, 86_400.0):
        seconds = decide(error, 3, since=NOW, now=NOW + jump)
        assert seconds is not None
        assert 1 <= seconds <= 900
    assert decide(error, 3, since=NOW, now=NOW + 43 * 86_400) is None


def test_a_clock_that_was_set_back_delays_neither_reconcile_nor_lost_jobs(redis_client: Redis) -> None:
    Queues(redis_client).announce([Announcement("abc", Trigger.WEBHOOK)])
    redis_client.delete("rq:queue:batch-receiver-batches")
    queues = Queues(redis_client)
    assert not due(queues, 900)
    assert requeue_orphans(queues, NOW) == []

    redis_client.set("batch-receiver:reconcile:last", queues.now() + 36_000)
    assert due(queues, 900)
    assert requeue_orphans(queues, NOW - 36_000) == ["batch-receiver-batch-abc"]


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a small file system can't be mounted here")
    try:
        yield
    finally:
        # Lazily: a worker that still runs may hold it.
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("mount"), reason="only root mounts file systems")
def test_a_full_disk_is_a_failure_that_says_so_and_a_replay_after_room_was_made_completes_it(
    deployment: Deployment, redis_client: Redis
) -> None:
    raw = b"".join(result_line(f"request-{n}", "x" * 2000) for n in range(1000))
    batch = deployment.gemini.put_batch(raw)
    with small_disk(deployment.folder, "3m"):
        deployment.work(**PARTS)
        deployment.run("replay", "--force", batch)  # The looks below are the workers' alone.

        def failed() -> tuple[str, str] | None:
            found = shown(deployment, batch)
            return found if found[0] == "failed" else None

        state = wait_until(failed, what="the failure")
        assert state
        assert "No room left" in state[1]
        assert "free space, then replay the batch" in state[1]
        assert looks(deployment.gemini, batch) == 1
        assert not (deployment.batch_folder(batch) / "batch.json").exists()

        subprocess.run(["mount", "-o", "remount,size=64m", deployment.folder], check=True)
        deployment.run("replay", batch)

        assert deployment.wait_for_commit(batch)["counts"]["succeeded"] == 1000
        deployment.wait_until_tidy(batch)
        assert deployment.run("verify", batch).returncode == 0
        assert shown(deployment, batch)[0] == "committed"
        assert redis_client.zcard("rq:failed:batches") == 0


@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")
def test_everything_is_synced_before_the_commit_marker_appears(
    deployment: Deployment, tmp_path: Path
) -> None:
    picture = {"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo="}}
    content = {"content": {"parts": [{"text": "Look."}, picture]}, "finishReason": "STOP"}
    raw = b"".join(result_line(f"request-{n}", candidates=[content]) for n in range(300))
    batch = deployment.gemini.put_batch(raw)
    trace = tmp_path / "trace"
    command = ["strace", "-f", "-y", "-s", "4096", "-e", f"trace={CALLS}", "-o", str(trace)]
    command += [sys.executable, "-m", "receiver.cli", "process", batch]
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **deployment.env, "PART_BYTES": "20000"}
    ended = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    if "ptrace" in ended.stderr:
        pytest.skip("processes can't be traced here")
    assert ended.returncode == 0, ended.stderr

    story = Story.read(trace, deployment.folder)

    committed = story.published[f"{batch}/batch.json"]
    written = [path for path in contents(deployment.batch_folder(batch)) if path != "batch.json"]
    assert Counter(path.split("/")[0] for path in written) >= Counter(outputs=300, media=300, raw=2)
    for path in written:
        assert story.durable_at(f"{batch}/{path}") < committed, path
    assert story.synced_before(committed, f"{batch}/batch.json")


def test_a_refused_key_is_asked_with_slowly_and_a_replay_with_a_good_one_completes_the_batch(
    deployment: Deployment, redis_client: Redis
) -> None:
    batch = deployment.gemini.put_batch(result_line("a"))
    deployment.gemini.fault("status", f"batches/{batch}", times=0, value=401)
    deployment.work()

    deployment.run("replay", "--force", batch)  # The looks below are the workers' alone.
    wait_until(lambda: redis_client.zcard("rq:scheduled:batch-receiver-batches") == 1, what="the next try")

    state, reason = shown(deployment, batch)
    assert state == "waiting"
    assert reason.startswith("Gemini refused the API key (401), check GEMINI_API_KEY")
    assert looks(deployment.gemini, batch) == 1
    deployment.gemini.clear_faults()
    deployment.run("replay", batch)
    assert deployment.wait_for_commit(batch)["state"] == "succeeded"


def test_an_expired_file_is_asked_for_once_and_left_alone_until_somebody_replays_it(
    deployment: Deployment, redis_client: Redis
) -> None:
    batch = deployment.gemini.put_batch(result_line("a"))
    deployment.gemini.expire_output(batch)
    deployment.work(RECONCILE_INTERVAL_SECONDS="1")

    deployment.run("replay", batch)
    wait_for_failure(redis_client, batch)
    wait_until(
        lambda: redis_client.hget("batch-receiver:counters", "reconcile_failed_for_good"),
        what="a reconcile that leaves it alone",
    )

    state, reason = shown(deployment, batch)
    assert (state, reason) == (
        "failed",
        "The result file is gone: Gemini has deleted it.",
    )
    # The file has two addresses; each was asked once.
    assert len(downloads(deployment.gemini, batch)) == 2
    assert not (deployment.batch_folder(batch) / "batch.json").exists()
    deployment.gemini.put_batch(result_line("a"), batch_id=batch)
    deployment.run("replay", batch)
    assert deployment.wait_for_commit(batch)["state"] == "succeeded"


def test_a_429_is_tried_again_when_gemini_says(deployment: Deployment, redis_client: Redis) -> None:
    batch = deployment.gemini.put_batch(result_line("a"))
    deployment.gemini.fault("status", f"batches/{batch}", times=2, value=429, retry_after="3")
    deployment.work()
    deployment.run("replay", "--force", batch)  # The looks below are the workers' alone.

    asked = []
    for count in (1, 2, 3):
        while looks(deployment.gemini, batch) < count:
            time.sleep(0.01)
        asked.append(time.monotonic())

    assert all(2.9 <= later - earlier < 10 for earlier, later in pairwise(asked))
    deployment.wait_for_commit(batch)
    wait_until(
        lambda: not redis_client.exists(f"rq:job:batch-receiver-batch-{batch}"),
        what="the end of the job's record",
    )


class Lagging(Folder):
    """A bucket whose listing forgets what was stored lately: a name shows up from its third listing on."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._listed: Counter[str] = Counter()

    def list(self, prefix: str) -> Iterator[tuple[str, int]]:
        for name, size in super().list(prefix):
            self._listed[name] += 1
            if self._listed[name] > 2:
                yield name, size


class Here:
    """Parts in this process, as early as they can be."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools

    def part(self, batch: str, number: int) -> None:
        processing.fan_out_part(self._tools, self, batch, number)

    def parts(self, batch: str, numbers: Iterable[int]) -> bool:
        del batch, numbers
        return False

    def look(self, batch: str) -> None:
        raise AssertionError(batch)


def test_a_listing_that_lags_delays_the_commit_and_never_makes_it_incomplete(
    gemini: Gemini, tmp_path: Path
) -> None:
    raw = b"".join(result_line(f"request-{n}", "x" * 500) for n in range(200))
    batch = gemini.put_batch(raw)
    said = Announced(frozenset({Trigger.RECONCILE}), 1, None)
    found = {}
    for kind in (Folder, Lagging):
        bucket = kind((tmp_path / kind.__name__).as_uri())
        client = Client(Access(gemini.url, Secret(gemini.api_key)))
        tools = Tools(client, bucket, frozenset({"objects"}), part_bytes=10_000)
        looked = 0
        while read_summary(bucket, batch) is None:
            assert looked < 5
            ended = processing.process(tools, Here(tools), batch, said)
            assert ended is (Result.IN_PARTS if read_summary(bucket, batch) is None else Result.COMMITTED)
            looked += 1
        assert (looked > 1) is (kind is Lagging)
        assert processing.process(tools, Here(tools), batch, said) is Result.ALREADY_COMMITTED
        client.close()
        found[kind] = contents(tmp_path / kind.__name__ / batch)

    assert found[Lagging] == found[Folder]
