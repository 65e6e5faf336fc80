"""Every delivery is counted, and written down without letting strangers fill Redis."""

import asyncio
import json
import re
import urllib.request

import pytest
import redis

from receiver.deliveries import Deliveries, Sums
from tests.receiver.conftest import Receiver, StartReceiver
from tests.receiver.signing import OTHER_KEY, event, signed
from tests.support.processes import Process
from tests.support.waiting import wait_until
from workers.contract.history import Delivered
from workers.contract.history.pages import Pages


def scraped(process: Process) -> str:
    port = process.wait_for_output(r"event=metrics_listening port=(\d+)")[1]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        return str(answer.read(), "utf-8")


def totals(process: Process) -> dict[str, float]:
    found = re.findall(r'deliveries_total\{outcome="(\w+)",project="default"\} (\S+)', scraped(process))
    return {outcome: float(number) for outcome, number in found}


def test_an_accepted_delivery_is_kept_with_its_id_and_type(
    receiver: Receiver, redis_client: redis.Redis
) -> None:
    body = event("batches/abc", type="batch.succeeded")
    headers = signed(body)
    receiver.post(body, headers)
    receiver.post(body, headers)

    accepted, duplicate = Pages(redis_client, "batch-receiver").deliveries(limit=2)[::-1]
    assert accepted.fields == {
        "outcome": "accepted",
        "batch": "abc",
        "trigger": "webhook",
        "type": "batch.succeeded",
        "webhook_id": headers["webhook-id"],
    }
    assert duplicate.fields["outcome"] == "duplicate"


def test_what_is_refused_or_ignored_is_summed_up_by_reason_and_holds_nothing_that_was_sent(
    receiver: Receiver, redis_client: redis.Redis
) -> None:
    body = event(note="a body's own words")
    forged = signed(body, key=OTHER_KEY)
    for _ in range(50):
        receiver.post(body, forged)
    receiver.post(b"no json", signed(b"no json"))
    pages = Pages(redis_client, "batch-receiver")

    def count(outcome: str) -> int:
        return sum(int(each.fields["count"]) for each in pages.deliveries(outcome))

    wait_until(lambda: count("refused") == 50 and count("ignored") == 1, what="sums in Redis")
    kept = pages.deliveries()
    assert {each.fields["reason"] for each in kept} == {"no signature matches", "no JSON"}
    shown = json.dumps([dict(each.fields) for each in kept])
    assert "own words" not in shown
    assert forged["webhook-signature"].removeprefix("v1,") not in shown


def test_a_flood_leaves_one_entry_a_reason_and_interval_whatever_its_size() -> None:
    written: list[Sums] = []

    async def flood() -> None:
        is_written, loop = asyncio.Event(), asyncio.get_running_loop()

        def write(sums: Sums) -> None:
            written.append(sums)
            loop.call_soon_threadsafe(is_written.set)

        deliveries = Deliveries(write, interval_seconds=0.01)
        for number in range(10_000):
            deliveries.unheard(Delivered.REFUSED, f"reason {number}")
        await is_written.wait()

    asyncio.run(flood())

    assert len(written) == 1
    assert len(written[0]) == 17
    assert sum(written[0].values()) == 10_000


def test_a_redis_that_takes_nothing_costs_the_history_and_no_answer(receiver: Receiver) -> None:
    def broken(_sums: Sums) -> None:
        raise redis.exceptions.ConnectionError

    async def notes() -> None:
        deliveries = Deliveries(broken, interval_seconds=0.001)
        for _ in range(3):
            deliveries.unheard(Delivered.IGNORED, "ping")
            await asyncio.sleep(0.01)
        deliveries.close()

    asyncio.run(notes())
    assert receiver.deliver().word == "accepted"


def test_what_is_left_is_written_at_the_end(start_receiver: StartReceiver, redis_client: redis.Redis) -> None:
    connected = redis_client.connection_pool.connection_kwargs
    receiver = start_receiver(f"redis://{connected['host']}:{connected['port']}/0")
    receiver.post(b"{}")
    assert receiver.process.stop() == 0

    assert Pages(redis_client, "batch-receiver").delivered()["refused"] == 1


def test_metrics_are_on_their_own_address_and_nowhere_else(
    start_receiver: StartReceiver, redis_url: str
) -> None:
    receiver = start_receiver(redis_url, METRICS_ADDRESS="127.0.0.1:0")
    assert totals(receiver.process) == dict.fromkeys([each.value for each in Delivered], 0)

    receiver.deliver()
    receiver.deliver()
    receiver.post(b"{}")

    assert totals(receiver.process) == {
        "accepted": 1,
        "duplicate": 1,
        "refused": 1,
        "ignored": 0,
        "unavailable": 0,
    }
    shown = scraped(receiver.process)
    assert "batch_receiver_delivery_seconds_count 3.0" in shown
    assert 'batch_receiver_build_info{version="' in shown
    assert receiver.send("GET", "/metrics").status == 404


@pytest.mark.parametrize("address", ["nonsense", "127.0.0.1", "127.0.0.1:99999", "a@b:1", ":80"])
def test_a_metrics_address_that_is_none_stops_the_start(address: str, start_process: object) -> None:
    assert callable(start_process)
    env = {"METRICS_ADDRESS": address, "WEBHOOK_SIGNING_SECRET": "whsec_" + "A" * 32}
    process = start_process("serve", "--port", "0", env=env)

    assert process.wait() == 2
    assert "METRICS_ADDRESS must be host:port" in process.output
