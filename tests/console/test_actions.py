"""What may be done from the pages: one batch, many that match, and who did it."""

import re
from typing import Any

import pytest
from rq.job import JobStatus

from tests.console.conftest import Console
from tests.console.seeding import Seeds, lines
from tests.support.deployment import Deployment
from tests.support.queues import BATCHES
from tests.support.waiting import wait_until
from workers.contract import Announcement, Trigger
from workers.contract.history.states import BatchState


def form_of(page: str) -> dict[str, str]:
    """The hidden fields of the form that confirms."""
    form = page.partition('action="/actions/bulk"')[2].partition("</form>")[0]
    return dict(re.findall(r'name="([^"]+)" value="([^"]*)"', form))


def waiting(seeds: Seeds) -> list[str]:
    return seeds.queues.queue(BATCHES).get_job_ids()


def test_a_replay_enqueues_the_batch_and_a_second_one_says_that_it_waits(
    console: Console, seeds: Seeds
) -> None:
    seeds.failed("f1", "It broke.")
    answer = console.post("/batches/f1/replay")

    assert answer.status_code == 303
    assert "It is enqueued." in console.get(answer.headers["location"]).text
    assert waiting(seeds) == ["batch-receiver-batch-f1"]
    assert seeds.queues.announced("f1").triggers == {Trigger.REPLAY}
    second = console.post("/batches/f1/replay", accept="application/json")
    assert second.json() == {"batch": "f1", "status": "duplicate"}


def test_a_refetch_says_so(console: Console, seeds: Seeds) -> None:
    console.post("/batches/f1/replay", {"refetch": "1"})

    assert seeds.queues.announced("f1").refetch


@pytest.mark.parametrize("path", ["/batches/a.b/replay", "/batches/other/x/replay", "/batches/..%2f/verify"])
def test_what_is_no_batch_of_ours_is_404_and_enqueues_nothing(
    console: Console, seeds: Seeds, path: str
) -> None:
    assert console.post(path).status_code == 404
    assert waiting(seeds) == []


def test_a_verification_runs_with_progress_and_tells_what_is_missing(
    console: Console, deployment: Deployment
) -> None:
    batch = deployment.gemini.put_batch(b"".join(lines()), batch_id="tobeverified")
    assert deployment.run("process", batch).returncode == 0

    def verified() -> Any:
        assert console.post(f"/batches/{batch}/verify").status_code == 303
        return wait_until(
            lambda: (
                (seen := console.json(f"/batches/{batch}.json")["verification"])["state"] != "running"
                and seen
            ),
            what="the verification",
        )

    first = verified()
    assert first["state"] == "done", first
    assert first["report"]["good"] is True
    assert first["stage"]
    (console.folder / batch / "outputs" / "long.json").unlink()
    assert verified()["report"]["problems"]["missing"]["count"] == 1
    assert "outputs/long.json" in console.get(f"/batches/{batch}").text


def test_a_bulk_action_is_counted_first_then_confirmed_then_done_to_all_that_match(
    console: Console, seeds: Seeds
) -> None:
    for number in range(120):
        seeds.failed(f"f{number}", "It broke.", display_name="broken")
    seeds.failed("other", "It broke.", display_name="another")
    page = console.get("/actions/new?action=replay&state=given-up&q=broken")

    assert "Replay 120 batches?" in page.text
    assert waiting(seeds) == []
    began = console.post("/actions/bulk", form_of(page.text))
    assert began.status_code == 303
    path = began.headers["location"]
    done = wait_until(
        lambda: (seen := console.json(f"{path}.json"))["state"] != "running" and seen, what="the bulk action"
    )
    assert (done["state"], done["done"], done["accepted"]) == ("done", 120, 120)
    assert set(waiting(seeds)) == {f"batch-receiver-batch-f{number}" for number in range(120)}
    log = console.json("/actions.json")["actions"]
    assert [entry["action"] for entry in log] == ["bulk-replay-done", "bulk-replay"]
    assert "q=broken" in log[1]["filter"]


def test_what_came_after_the_count_is_not_touched(console: Console, seeds: Seeds) -> None:
    seeds.failed("before", "It broke.", ago=60)
    fields = form_of(console.get("/actions/new?action=replay&state=given-up").text)
    seeds.failed("after", "It broke.", ago=-5)
    path = console.post("/actions/bulk", fields).headers["location"]
    wait_until(lambda: console.json(f"{path}.json")["state"] == "done", what="the bulk action")

    assert waiting(seeds) == ["batch-receiver-batch-before"]


@pytest.mark.parametrize(
    "fields", [{}, {"state": "", "q": " "}, {"state": "nonsense"}, {"since": "whenever"}]
)
def test_an_empty_filter_is_refused(console: Console, seeds: Seeds, fields: dict[str, str]) -> None:
    seeds.failed("f1", "It broke.")

    assert console.http.get("/actions/new", params={"action": "replay", **fields}).status_code == 422
    assert console.post("/actions/bulk", {"action": "replay", **fields}).status_code == 422
    assert console.post("/actions/bulk", {"action": "drop", "state": "given-up"}).status_code == 404
    assert waiting(seeds) == []


def test_what_is_at_work_already_is_counted_apart(console: Console, seeds: Seeds) -> None:
    seeds.everything()
    seen = console.json("/actions/new.json?action=replay&q=eval-run&since=10m")

    assert (seen["matching"], seen["at_work"], seen["eligible"]) == (1, 1, 0)


def test_a_bulk_action_can_be_stopped(console: Console, seeds: Seeds) -> None:
    for number in range(2000):
        seeds.failed(f"f{number:04d}", "It broke.")
    path = console.post("/actions/bulk", {"action": "replay", "state": "given-up"}).headers["location"]
    assert console.post(f"{path}/stop").status_code == 303
    ended = wait_until(
        lambda: (seen := console.json(f"{path}.json"))["state"] != "running" and seen, what="the end"
    )

    assert ended["state"] == "stopped"
    assert ended["done"] < 2000
    assert len(waiting(seeds)) == ended["accepted"]


def ended(console: Console, path: str) -> Any:
    """A bulk action, once it has ended."""

    def look() -> Any:
        seen = console.json(f"{path}.json")
        return seen["state"] != "running" and seen

    return wait_until(look, seconds=120, what="the end of the bulk action")


def test_a_bulk_verification_leaves_alone_what_is_not_committed_and_names_what_is_damaged(
    console: Console, deployment: Deployment, seeds: Seeds
) -> None:
    for number in range(3):
        batch = deployment.gemini.put_batch(b"".join(lines(2)[:2]), batch_id=f"whole{number}")
        assert deployment.run("process", batch).returncode == 0
        seeds.committed(batch, display_name="verified")
    (console.folder / "whole1" / "manifest.jsonl").unlink()
    seeds.failed("f1", "It broke.", display_name="verified")
    page = console.get("/actions/new?action=verify&q=verified")

    assert "Verify 3 batches?" in page.text
    assert "1 of them are not committed" in page.text
    path = console.post("/actions/bulk", form_of(page.text)).headers["location"]
    found = ended(console, path)
    assert (found["total"], found["outcomes"], found["first_bad"]) == (
        3,
        {"good": 2, "bad": 1, "broken": 0},
        ["whole1"],
    )
    assert 'href="/batches/whole1"' in console.get(path).text
    assert console.json("/batches/whole1.json")["verification"]["report"]["good"] is False
    log = console.json("/actions.json")["actions"]
    assert [(each["action"], each["who"]) for each in log] == [
        ("bulk-verify-done", "local"),
        ("bulk-verify", "local"),
    ]


def test_a_bulk_verification_that_is_stopped_ends_the_one_under_way(
    console: Console, seeds: Seeds, deployment: Deployment
) -> None:
    batch = deployment.gemini.put_batch(b"".join(lines()), batch_id="first")
    assert deployment.run("process", batch).returncode == 0
    for number in range(200):
        seeds.committed(f"c{number:03d}")
    path = console.post("/actions/bulk", {"action": "verify", "state": "succeeded"}).headers["location"]
    assert console.post(f"{path}/stop").status_code == 303
    found = ended(console, path)

    assert found["state"] == "stopped"
    assert found["done"] < 200
    assert "stop-verify" in {each["action"] for each in console.json("/actions.json")["actions"]}


def test_many_are_forgotten_at_once_but_not_what_runs_or_is_committed(console: Console, seeds: Seeds) -> None:
    for number in range(120):
        seeds.queues.announce([Announcement(f"f{number}", Trigger.WEBHOOK)])
        seeds.failed(f"f{number}", "It broke.", display_name="broken")
    seeds.committed("done", display_name="broken")
    seeds.in_state("busy", BatchState.RUNNING, display_name="broken")
    seeds.failed("other", "It broke.", display_name="another")
    page = console.get("/actions/new?action=forget&q=broken")

    assert "Forget 120 batches?" in page.text
    assert console.json("/batches.json?q=broken")["total"] == 122
    found = ended(console, console.post("/actions/bulk", form_of(page.text)).headers["location"])
    assert (found["state"], found["outcomes"]) == ("done", {"forgotten": 120, "kept": 0})
    assert waiting(seeds) == []
    left = {each["batch"] for each in console.json("/batches.json")["batches"]}
    assert left == {"done", "busy", "other"}
    assert "bulk-forget" in {each["action"] for each in console.json("/actions.json")["actions"]}


def test_what_runs_by_now_is_not_forgotten(console: Console, seeds: Seeds) -> None:
    seeds.queues.announce([Announcement("f1", Trigger.WEBHOOK)])
    seeds.failed("f1", "It broke.")
    job = seeds.queues.queue(BATCHES).fetch_job("batch-receiver-batch-f1")
    assert job
    job.set_status(JobStatus.STARTED)
    path = console.post("/actions/bulk", {"action": "forget", "state": "given-up"}).headers["location"]

    assert ended(console, path)["outcomes"] == {"forgotten": 0, "kept": 1}
    assert console.json("/batches/f1.json")["record"]["state"] == "given-up"


@pytest.mark.parametrize("action", ["verify", "forget"])
def test_verify_and_forget_want_a_filter_too(console: Console, seeds: Seeds, action: str) -> None:
    seeds.failed("f1", "It broke.")

    assert console.get(f"/actions/new?action={action}").status_code == 422
    assert console.post("/actions/bulk", {"action": action}).status_code == 422
    assert console.json("/batches.json")["total"] == 1
