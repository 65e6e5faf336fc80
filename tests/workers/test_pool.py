"""The pool: what keeps reconcile from running is said, and not taken for an outage; so is Redis that is away."""

import signal
from pathlib import Path

import redis

from emulator.demo.local_redis import free_port, start_redis
from tests.support.deployment import Deployment, result_line


def test_a_pool_that_may_not_ask_when_reconcile_is_due_says_so_once_a_minute(
    deployment: Deployment, redis_client: "redis.Redis"
) -> None:
    redis_client.acl_setuser(
        "poor", enabled=True, nopass=True, keys=["*"], channels=["*"], commands=["+@all", "-getset"]
    )
    url = deployment.env["REDIS_URL"].replace("redis://", "redis://poor:any@")

    work = deployment.work("--workers", "1", REDIS_URL=url, RECONCILE_INTERVAL_SECONDS="1")

    work.wait_for_output(r"event=reconcile_failed reason=.*its user lacks rights.*getset")
    assert work.stop() == 0
    assert work.output.count("event=reconcile_failed") == 1


def test_a_worker_that_takes_another_ones_place_is_as_quiet_and_redis_away_is_one_line(
    deployment: Deployment, tmp_path: Path
) -> None:
    port = free_port()
    server = start_redis(tmp_path / "stopped", port)
    try:
        pool = deployment.work("--workers", "1", REDIS_URL=f"redis://127.0.0.1:{port}/0?socket_timeout=1")
        server.send_signal(signal.SIGSTOP)
        pool.wait_for_output("event=worker_ended")
        server.send_signal(signal.SIGCONT)
        batch = deployment.gemini.put_batch(result_line("a"))
        deployment.run("replay", batch, REDIS_URL=f"redis://127.0.0.1:{port}/0")
        deployment.wait_for_commit(batch)
        assert pool.stop() == 0
    finally:
        server.send_signal(signal.SIGCONT)
        server.terminate()
        server.wait()
    assert "Process Worker" not in pool.output
    assert "INFO rq.worker" not in pool.output
