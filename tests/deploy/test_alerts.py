"""Each alert's fault is made in a real deployment, whose `/metrics` are scraped; calm, none of them fires.

How long a fault has to last is promtool's affair: see `tests.support.promtool`.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import redis

from emulator.demo.local_redis import free_port
from tests.console.conftest import Console
from tests.support.deployment import Deployment, result_line
from tests.support.processes import Process
from tests.support.promtool import ALERTS, Scrape, assert_alerts, scrape
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow
PATIENCE = 120.0


class Measured:
    """A deployment with a console, and a receiver that is asked for its metrics too."""

    def __init__(self, start: Callable[..., Process], deployment: Deployment, connection: Any) -> None:
        self.deployment = deployment
        self.gemini = deployment.gemini
        self.redis = connection
        self.start = start
        self.console = Console(start, deployment.env["REDIS_URL"], deployment.folder)
        self.at = f"http://127.0.0.1:{free_port()}"
        self.address = {"METRICS_ADDRESS": self.at.removeprefix("http://")}

    def serve(self, **settings: str) -> None:
        """A receiver that Gemini tells of batches."""
        self.deployment.subscribe(**self.address, **settings)

    def told(self, count: int = 1, **options: Any) -> list[str]:
        """Batches that ended and that Gemini delivers."""
        batches = [self.gemini.put_batch(result_line("a", **options)) for _ in range(count)]
        for batch in batches:
            self.gemini.wait_for_deliveries(self.gemini.announce(batch), seconds=PATIENCE)
        return batches

    def reconcile(self) -> None:
        self.deployment.run("reconcile")

    def scrape(self) -> Scrape:
        return scrape(self.console.url, self.at)

    def more_of(self, name: str, before: Scrape) -> Scrape:
        """The first scrape in which this is more than it was before."""

        def look() -> Scrape | None:
            after = self.scrape()
            return after if after.values[name] > before.values[name] else None

        found = wait_until(look, what=f"more of {name}")
        assert found is not None
        return found

    def state(self, batch: str) -> str | None:
        answer = self.console.get(f"/batches/{batch}.json")
        return str(answer.json()["record"]["state"]) if answer.status_code == 200 else None

    def wait_for(self, batch: str, *states: str) -> None:
        wait_until(lambda: self.state(batch) in states, seconds=PATIENCE, what=f"{batch} to be {states}")

    def commit(self, batches: list[str]) -> None:
        for batch in batches:
            self.deployment.wait_for_commit(batch, PATIENCE)
            self.wait_for(batch, "succeeded")


@pytest.fixture
def measured(
    start_process: Callable[..., Process], deployment: Deployment, redis_client: "redis.Redis"
) -> Any:
    redis_client.config_set("appendonly", "yes")
    found = Measured(start_process, deployment, redis_client)
    yield found
    found.console.http.close()
    redis_client.config_set("appendonly", "no")


class Fault(NamedTuple):
    """`make` gives the two scrapes. Silent after so many hours of it, firing after so many."""

    make: Callable[[Measured], tuple[Scrape, Scrape]]
    silent: float
    fires: float


def a_bucket_that_is_none(measured: Measured) -> tuple[Scrape, Scrape]:
    """What ended can't be written."""
    measured.serve()
    measured.deployment.work("--workers", "1", RECONCILE_INTERVAL_SECONDS="0")
    folder = measured.deployment.folder
    folder.rename(folder.with_name("gone"))
    folder.touch()
    before = measured.scrape()
    (batch,) = measured.told()
    measured.wait_for(batch, "waiting")
    return before, measured.scrape()


def nobody_works(measured: Measured) -> tuple[Scrape, Scrape]:
    measured.serve()
    measured.told()
    before = measured.scrape()
    (oldest,) = [name for name in before.values if "queue_oldest" in name and "batches" in name]

    return before, measured.more_of(oldest, before)


def a_key_that_was_revoked(measured: Measured) -> tuple[Scrape, Scrape]:
    measured.serve()
    work = measured.deployment.work("--workers", "1", RECONCILE_INTERVAL_SECONDS="1")
    name = "batch_receiver_reconcile_last_success_timestamp_seconds{}"
    wait_until(lambda: name in measured.scrape().values, seconds=PATIENCE, what="a good run")
    measured.gemini.fault("status", "GET /v1beta/batches", value=403, times=0)
    work.wait_for_output("event=reconcile_trouble")
    before = measured.scrape()
    seen = len(re.findall("event=reconcile_trouble", work.output))
    wait_until(
        lambda: len(re.findall("event=reconcile_trouble", work.output)) > seen + 1,
        seconds=PATIENCE,
        what="more runs",
    )
    return before, measured.scrape()


def a_webhook_that_gemini_gave_up(measured: Measured) -> tuple[Scrape, Scrape]:
    measured.serve()
    measured.reconcile()
    before = measured.scrape()
    [webhook] = measured.gemini.http.get("/v1beta/webhooks").json()["webhooks"]
    state = {"state": "disabled_due_to_failed_deliveries"}
    answer = measured.gemini.http.patch(
        f"/v1beta/webhooks/{webhook['id']}", params={"update_mask": "state"}, json=state
    )
    answer.raise_for_status()
    measured.reconcile()
    return before, measured.scrape()


def deliveries_that_never_come(measured: Measured) -> tuple[Scrape, Scrape]:
    """The webhook is enabled and leads to somebody else."""
    measured.deployment.serve(**measured.address)
    measured.gemini.create_webhook(f"{measured.console.url}/webhooks/gemini")
    measured.deployment.work("--workers", "1", RECONCILE_INTERVAL_SECONDS="0")
    measured.reconcile()
    before = measured.scrape()
    batch = measured.gemini.put_batch(result_line("a"))
    measured.reconcile()
    measured.commit([batch])
    return before, measured.scrape()


def another_secret(measured: Measured) -> tuple[Scrape, Scrape]:
    """It was rotated where nobody told the receiver."""
    measured.deployment.serve(**measured.address)
    measured.gemini.create_webhook(measured.deployment.url)
    before = measured.scrape()
    batch = measured.gemini.put_batch(result_line("a"))
    measured.gemini.announce(batch)
    refused = 'batch_receiver_deliveries_total{outcome="refused",project="default"}'

    def seen() -> Scrape | None:
        after = measured.scrape()
        return after if after.values[refused] > before.values[refused] else None

    found = wait_until(seen, seconds=PATIENCE, what="a refusal")
    assert found is not None
    return before, found


def results_that_are_gone(measured: Measured) -> tuple[Scrape, Scrape]:
    measured.serve()
    before = measured.scrape()
    batch = measured.gemini.put_batch(result_line("a"))
    measured.gemini.expire_output(batch)
    measured.gemini.announce(batch)
    measured.deployment.work("--workers", "1", RECONCILE_INTERVAL_SECONDS="0")
    measured.wait_for(batch, "given-up")
    return before, measured.scrape()


def answers_that_are_cut(measured: Measured) -> tuple[Scrape, Scrape]:
    measured.serve()
    measured.deployment.work("--workers", "1", RECONCILE_INTERVAL_SECONDS="0")
    measured.commit(measured.told())
    short = [{"content": {"parts": [{"text": "An"}]}, "finishReason": "MAX_TOKENS"}]
    measured.commit(measured.told(candidates=short))
    before = measured.scrape()
    measured.commit([*measured.told(), *measured.told(candidates=short)])
    return before, measured.scrape()


def a_redis_without_a_file(measured: Measured) -> tuple[Scrape, Scrape]:
    measured.serve()
    before = measured.scrape()
    measured.redis.config_set("appendonly", "no")
    return before, measured.scrape()


def a_batch_that_gemini_does_not_end(measured: Measured) -> tuple[Scrape, Scrape]:
    measured.serve()
    batch = measured.gemini.put_batch(b"", state="RUNNING")
    measured.reconcile()
    measured.wait_for(batch, "pending")
    before = measured.scrape()
    name = "batch_receiver_unfinished_oldest_seconds{}"

    return before, measured.more_of(name, before)


def a_console_that_is_gone(measured: Measured) -> tuple[Scrape, Scrape]:
    measured.serve()
    before = measured.scrape()
    measured.console.process.stop()
    return before, scrape(measured.at)


FAULTS = {
    "BatchReceiverResultsNearExpiry": Fault(a_bucket_that_is_none, silent=35.5, fires=36.5),
    "BatchReceiverQueueStuck": Fault(nobody_works, silent=0.1, fires=0.5),
    "BatchReceiverNoReconcile": Fault(a_key_that_was_revoked, silent=0.6, fires=1),
    "BatchReceiverWebhookDisabled": Fault(a_webhook_that_gemini_gave_up, silent=0, fires=0.1),
    "BatchReceiverDeliveriesLost": Fault(deliveries_that_never_come, silent=0.9, fires=1.5),
    "BatchReceiverSignaturesRefused": Fault(another_secret, silent=0.2, fires=0.6),
    "BatchReceiverBatchFailed": Fault(results_that_are_gone, silent=0, fires=0.1),
    "BatchReceiverAnswersCutShort": Fault(answers_that_are_cut, silent=0, fires=1),
    "BatchReceiverRedisNotPersisting": Fault(a_redis_without_a_file, silent=0, fires=0.2),
    "BatchReceiverBatchUnfinished": Fault(a_batch_that_gemini_does_not_end, silent=47.5, fires=48.5),
    "BatchReceiverNotMeasured": Fault(a_console_that_is_gone, silent=0.1, fires=0.3),
}


def test_every_alert_has_its_fault() -> None:
    assert set(FAULTS) == set(ALERTS)


@pytest.mark.parametrize("alert", FAULTS)
def test_an_alert_fires_where_its_fault_lasts(measured: Measured, alert: str, tmp_path: Path) -> None:
    fault = FAULTS[alert]
    before, after = fault.make(measured)

    assert_alerts(tmp_path, before, after, {alert: (fault.silent, fault.fires)}, hours=fault.fires + 1)


def test_none_fires_while_all_goes_well(measured: Measured, tmp_path: Path) -> None:
    """Batches are told, fetched and committed, and reconcile runs; for two days."""
    measured.serve()
    measured.deployment.work("--workers", "1", RECONCILE_INTERVAL_SECONDS="1")
    measured.commit(measured.told(2))
    name = "batch_receiver_reconcile_last_success_timestamp_seconds{}"
    wait_until(lambda: name in measured.scrape().values, seconds=PATIENCE, what="a good run")
    before = measured.scrape()
    measured.commit(measured.told(2))

    def calm() -> Scrape | None:
        after = measured.scrape()
        has_run = after.values[name] > before.values[name]
        return after if has_run and after.values["batch_receiver_unfinished_oldest_seconds{}"] == 0 else None

    after = wait_until(calm, seconds=PATIENCE, what="another good run")
    assert after is not None
    assert json.dumps(sorted(after.values)) == json.dumps(sorted(before.values))
    assert_alerts(tmp_path, before, after, {}, hours=50)
