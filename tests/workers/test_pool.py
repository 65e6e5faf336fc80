"""The pool: what keeps reconcile from running is said, and not taken for an outage."""

import redis

from tests.support.deployment import Deployment


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
