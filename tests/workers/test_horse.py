"""A work-horse does many jobs, ends in time, and costs one job at most when it is killed."""

import os
import signal
import subprocess
import sys

import psutil
import pytest
from redis import Redis
from rq.job import Job

from tests.chaos.processes import crew, kill
from tests.support.deployment import Deployment, result_line
from tests.support.processes import ROOT, Process
from tests.support.waiting import wait_until
from workers.contract import Announcement, Queues, Trigger


def process(redis: Redis, batch: str) -> None:
    """Have a batch looked at, and wait until its job has ended."""
    Queues(redis).announce([Announcement(batch, Trigger.WEBHOOK)])
    wait_until(
        lambda: redis.hget(Job.key_for(f"batch-receiver-batch-{batch}"), "status") in {None, b"failed"},
        what="the end of the job",
    )


def committed(deployment: Deployment, redis: Redis) -> None:
    batch = deployment.gemini.put_batch(result_line("a"))
    process(redis, batch)
    deployment.wait_for_commit(batch)


def horse_of(pool: Process) -> int:
    return wait_until(lambda: crew(pool).horses, what="a work-horse")[0]


def is_alive(pid: int) -> bool:
    """A process whose first thread has ended holds its sockets for as long as there is another."""
    try:
        process = psutil.Process(pid)
        return bool(process.status() != psutil.STATUS_ZOMBIE or process.num_threads() > 1)
    except psutil.NoSuchProcess:
        return False


def test_one_horse_does_one_job_after_the_other(deployment: Deployment, redis_client: Redis) -> None:
    pool = deployment.work("--workers", "1")
    committed(deployment, redis_client)
    horse = horse_of(pool)

    for _ in range(3):
        committed(deployment, redis_client)

    assert crew(pool).horses == [horse]


def test_after_a_job_that_failed_there_is_a_new_horse(deployment: Deployment, redis_client: Redis) -> None:
    pool = deployment.work("--workers", "1")
    committed(deployment, redis_client)
    horse = horse_of(pool)
    gone = deployment.gemini.put_batch(result_line("a"))
    deployment.gemini.expire_output(gone)

    process(redis_client, gone)
    committed(deployment, redis_client)

    assert horse_of(pool) != horse
    assert not is_alive(horse)


def test_a_horse_that_is_killed_while_it_is_free_costs_nothing(
    deployment: Deployment, redis_client: Redis
) -> None:
    pool = deployment.work("--workers", "1")
    committed(deployment, redis_client)
    horse = horse_of(pool)
    wait_until(lambda: not crew(pool, deployment.env["REDIS_URL"]).busy, what="a free horse")

    kill(horse)
    # A signal is only sent by then: a job that comes before it strikes is given to a horse that still hears of it.
    wait_until(lambda: not is_alive(horse), what="the end of the horse")
    committed(deployment, redis_client)

    assert horse_of(pool) != horse
    assert "terminated unexpectedly" not in pool.output


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_free_horse_ends_with_its_worker(
    deployment: Deployment, redis_client: Redis, number: signal.Signals
) -> None:
    pool = deployment.work("--workers", "1")
    committed(deployment, redis_client)
    horse, worker = horse_of(pool), crew(pool).workers[0]

    os.kill(worker, number)

    wait_until(lambda: not is_alive(horse), what="the end of the horse")


def test_a_pool_whose_horses_are_free_stops_at_once(deployment: Deployment, redis_client: Redis) -> None:
    pool = deployment.work("--workers", "2")
    committed(deployment, redis_client)
    horse = horse_of(pool)

    assert pool.stop() == 0

    assert not is_alive(horse)


_SCRIPT = """
import os, sys, time
from workers import horse

def work(jobs):
    held = []
    for job in jobs:
        print(job, flush=True)
        if job == "fails":
            return
        if job == "raises":
            raise RuntimeError
        if job == "large":
            held.append(b"x" * (64 << 20))
        if job == "long":
            time.sleep(0.2)

horse.MOST_JOBS, horse.MOST_SECONDS, horse.MOST_BYTES, *jobs = map(eval, sys.argv[1:])
one = horse.Horse.fork(work)
goes_on = True
for job in jobs:
    print(one.take(job), goes_on := one.is_done(), flush=True)
print("goes on" if goes_on else os.waitstatus_to_exitcode(os.waitpid(one.pid, 0)[1]), flush=True)
one.end()
"""
_ENDLESS = ("10**9", "10**9", "10**12")


def run(*arguments: str) -> list[str]:
    """What a horse and its rider say, without the jobs' own words."""
    command = [sys.executable, "-c", _SCRIPT, *arguments]
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    said = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=True)
    return [
        line
        for line in said.stdout.splitlines()
        if line not in {"a", "b", "fails", "raises", "large", "long"}
    ]


@pytest.mark.parametrize(
    ("bounds", "jobs", "said"),
    [
        (_ENDLESS, ["a", "b"], ["True True", "True True", "goes on"]),
        (("2", "10**9", "10**12"), ["a", "b"], ["True True", "True False", "0"]),
        (("10**9", "0.1", "10**12"), ["a", "long"], ["True True", "True False", "0"]),
        (("10**9", "10**9", "64 << 20"), ["a", "large"], ["True True", "True False", "0"]),
        (_ENDLESS, ["a", "fails"], ["True True", "True False", "0"]),
        (_ENDLESS, ["a", "raises"], ["True True", "True False", "1"]),
    ],
    ids=["without bounds", "by number", "by time", "by memory", "after a failure", "after an exception"],
)
def test_a_horse_goes_on_until_it_has_done_enough(
    bounds: tuple[str, ...], jobs: list[str], said: list[str]
) -> None:
    assert run(*bounds, *map(repr, jobs)) == said
