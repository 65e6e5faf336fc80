"""The pages and their twins for scripts: what they show, and that nothing in a URL breaks them."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.console.conftest import Console
from tests.console.seeding import HOSTILE_KEY, HOSTILE_TEXT, Seeds, lines
from tests.support.deployment import Deployment
from tests.support.waiting import wait_until
from workers.contract.history.states import BatchState, Delivered

PAGES = ("/batches", "/deliveries", "/workers", "/checks", "/actions")


@pytest.fixture
def batch(deployment: Deployment) -> str:
    """One with results of many kinds, committed."""
    name = deployment.gemini.put_batch(b"".join(lines()), batch_id="committed1", display_name="Many kinds")
    assert deployment.run("process", name).returncode == 0
    return name


@pytest.mark.parametrize("path", PAGES)
def test_an_empty_deployment_says_what_to_do_next(console: Console, path: str) -> None:
    answer = console.get(path)

    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    expected = {
        "/batches": "No batch yet",
        "/deliveries": "No delivery yet",
        "/workers": "batch-receiver work --workers 4",
        "/checks": "Check everything",
        "/actions": "Nobody has done anything yet",
    }
    assert expected[path] in answer.text


@pytest.mark.parametrize("path", [*PAGES, "/batches/b00k7x2m9q4w8e1r5"])
def test_every_page_has_a_twin_for_scripts_and_names_it(console: Console, seeds: Seeds, path: str) -> None:
    seeds.everything()
    page = console.get(path)

    assert f'href="{path}.json"' in page.text
    assert isinstance(console.json(f"{path}.json"), dict)
    assert (
        console.get(path, headers={"accept": "application/json"}).json().keys()
        == console.json(f"{path}.json").keys()
    )


def test_the_list_is_newest_first_in_pages_and_filtered_by_what_the_url_says(
    console: Console, seeds: Seeds
) -> None:
    seeds.everything()
    first, second = console.json("/batches.json"), console.json("/batches.json?page=2")
    moments = [each["announced_at"] for each in first["batches"]]

    assert moments == sorted(moments, reverse=True)
    assert (len(first["batches"]), first["pages"], first["total"]) == (50, 2, 69)
    assert not {each["batch"] for each in first["batches"]} & {each["batch"] for each in second["batches"]}
    assert console.json("/batches.json?state=given-up")["total"] == 2
    assert console.json("/batches.json?warnings=1")["total"] == 6
    assert console.json("/batches.json?q=CATALOGUE&state=in-parts")["total"] == 1
    assert console.json("/batches.json?q=batches/f2q9")["batches"][0]["batch"] == "f2q9w4e7r1t6y3"
    assert console.json("/batches.json?since=10m")["total"] == 2
    assert console.json("/batches.json?q=nothing")["total"] == 0
    assert "Nothing matches" in console.get("/batches?q=nothing").text


def test_of_a_text_that_many_have_the_page_says_that_it_did_not_count_them_all(
    console: Console, seeds: Seeds
) -> None:
    for number in range(1060):
        seeds.committed(f"b{number:04d}", ago=60.0 + number)

    first = console.json("/batches.json?q=B0")
    assert (first["total"], first["more"], first["batches"][0]["batch"]) == (1000, False, "b0000")
    many, last = (console.json(f"/batches.json?q=B&page={page}") for page in (1, 22))
    assert (many["total"], many["more"], len(many["batches"])) == (1000, True, 50)
    assert (last["total"], last["more"], last["batches"][-1]["batch"]) == (1060, False, "b1059")
    html = console.get("/batches?q=B&page=20").text
    assert "Page 20, more than 1\u202f000 batches" in html
    assert "Replay all that match" in html
    assert "page=21" in html


def test_a_row_tells_counts_tokens_cost_size_times_and_why_it_waits(console: Console, seeds: Seeds) -> None:
    seeds.everything()
    page = console.get("/batches").text

    for shown in (
        "≈ $0.31",
        "catalogue-images",
        "61%, 11 of 18 parts",
        "rate limit is reached",
        "next try in",
    ):
        assert shown in page
    entry = next(e for e in console.json("/batches.json?state=in-parts")["batches"])
    assert entry["progress"] == pytest.approx(11 / 18)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", entry["announced_at"])


@pytest.mark.parametrize("state", [*BatchState])
def test_a_batch_in_every_state_has_its_row_and_its_page(
    console: Console, seeds: Seeds, state: BatchState
) -> None:
    seeds.in_state("abc", state, reason="Because.")

    assert console.json(f"/batches.json?state={state}")["total"] == 1
    assert console.get("/batches").status_code == 200
    assert console.json("/batches/abc.json")["record"]["state"] == state


@pytest.mark.parametrize("fields", [{}, {"parts": 3, "parts_done": 1}, {"expected": 4000}])
def test_how_many_keys_are_fetched_stands_in_the_list_and_on_the_page(
    console: Console, seeds: Seeds, fields: dict[str, int]
) -> None:
    seeds.in_state("abc", BatchState.RUNNING, keys=1234, **{"expected": 2468, **fields})
    page = console.get("/batches/abc")

    assert page.status_code == 200
    assert "1\u202f234 keys fetched" in page.text
    assert console.get("/batches").status_code == 200
    if not fields.get("parts"):
        assert "1\u202f234 keys" in console.get("/batches").text


def test_a_batch_shows_its_timeline_summary_and_objects(console: Console, seeds: Seeds, batch: str) -> None:
    seeds.committed(batch, total=125, failed=1)
    page, twin = console.get(f"/batches/{batch}").text, console.json(f"/batches/{batch}.json")

    assert twin["state"] == "committed"
    assert twin["summary"] == json.loads((console.folder / batch / "batch.json").read_bytes())
    assert [step["event"] for step in twin["steps"]][-1] == "committed"
    for shown in (
        "Many kinds",
        "MAX_TOKENS",
        "gemini-2.5-flash",
        f"{console.folder.as_uri()}/{batch}/manifest.jsonl",
    ):
        assert shown in page


def test_a_batch_that_only_the_bucket_knows_is_shown_and_one_that_nobody_knows_is_404(
    console: Console, batch: str
) -> None:
    assert console.get(f"/batches/{batch}").status_code == 200
    assert console.get("/batches/unknown").status_code == 404
    assert console.get("/batches/unknown.json").json()["error"].startswith("There is no such batch here")


def test_a_batch_json_that_is_damaged_is_told_and_breaks_nothing(console: Console, batch: str) -> None:
    path = console.folder / batch / "batch.json"
    for content in (b"{", b"[]", b'{"batch": "other"}', b"\xff"):
        path.write_bytes(content)
        answer = console.get(f"/batches/{batch}")
        assert answer.status_code == 200
        assert "is not readable; move it away" in answer.text
    summary = {
        "batch": batch,
        "counts": 7,
        "usage": [],
        "warnings": {},
        "finish_reasons": None,
        "state": "succeeded",
    }
    path.write_text(json.dumps(summary))
    assert console.get(f"/batches/{batch}").status_code == 200


def test_results_come_in_pages_straight_from_the_manifest(console: Console, batch: str) -> None:
    found, pages, path = [], 0, f"/batches/{batch}/results.json"
    while path:
        page = console.json(path)
        found += [entry["index"] for entry in page["results"]]
        path = f"/batches/{batch}/results.json?page={page['next']}" if page["next"] is not None else ""
        pages += 1

    assert found == list(range(125))
    assert pages == 3


def test_results_are_found_by_key_status_and_finish_reason(console: Console, batch: str) -> None:
    base = f"/batches/{batch}/results.json"

    assert [e["key"] for e in console.json(f"{base}?key=request-0042")["results"]] == ["request-0042"]
    exact = console.json(f"{base}?key=request-0042")
    assert (exact["exact"], exact["results"][0]["index"], exact["next"]) == (True, 42, 0)
    assert [e["key"] for e in console.json(f"{base}?key=long&page=0")["results"]] == ["long"]
    assert len(console.json(f"{base}?key=quest-001")["results"]) == 10
    assert [e["key"] for e in console.json(f"{base}?status=failed")["results"]] == ["failing"]
    assert [e["key"] for e in console.json(f"{base}?finish=MAX_TOKENS")["results"]] == ["thinking"]
    assert console.json(f"{base}?key=request&status=failed")["results"] == []
    assert console.get(base.removesuffix(".json"), params={"key": HOSTILE_KEY}).status_code == 200


def test_no_list_shows_what_was_answered(console: Console, seeds: Seeds, batch: str) -> None:
    seeds.committed(batch)
    for path in ("/batches", f"/batches/{batch}", f"/batches/{batch}/results"):
        for text in (console.get(path).text, console.get(f"{path}.json").text):
            assert "Answer number" not in text


def opened(console: Console, batch: str, key: str) -> str:
    """The path of the answer of a key."""
    found = console.get(f"/batches/{batch}/results.json", params={"key": key}).json()["results"]
    return f"/batches/{batch}/results/{found[0]['at']}"


def test_an_answer_that_is_opened_shows_text_thoughts_json_media_and_the_raw_line(
    console: Console, batch: str
) -> None:
    thinking = console.get(opened(console, batch, "thinking")).text
    for shown in ("Then I answer.", "First I think.", "finish_reason", "Raw line"):
        assert shown in thinking
    path = opened(console, batch, "image")
    assert f'src="{path}/media/0"' in console.get(path).text
    image = console.get(f"{path}/media/0")
    assert image.headers["content-type"] == "image/png"
    assert image.content.startswith(b"\x89PNG")
    failing = console.get(opened(console, batch, "failing"))
    assert "&lt;b&gt;internal" in failing.text.replace("\\u003c", "&lt;").replace("\\u003e", "&gt;")


def test_a_medium_that_a_browser_could_run_is_never_served(console: Console, batch: str) -> None:
    manifest = console.folder / batch / "manifest.jsonl"
    entry = json.loads(manifest.read_text().splitlines()[0])
    for told in (
        {"object": "media/x/0.svg", "mime_type": "image/svg+xml"},
        {"object": "batch.json", "mime_type": "image/png"},
        {"object": "media/../batch.json", "mime_type": "image/png"},
        {"object": None, "mime_type": "image/png"},
    ):
        manifest.write_text(json.dumps({**entry, "media": [told]}) + "\n")
        assert console.get(f"/batches/{batch}/results/0/media/0").status_code == 404
        assert console.get(f"/batches/{batch}/results/0").status_code == 200


def test_a_hostile_key_and_text_are_shown_and_do_nothing(console: Console, batch: str) -> None:
    for path in (f"/batches/{batch}/results?key=script", opened(console, batch, HOSTILE_KEY)):
        page = console.get(path).text
        assert "&lt;script&gt;alert(&#39;key&#39;)" in page
        assert "<script>alert" not in page
        assert "<img src=x" not in page
    assert HOSTILE_TEXT.split("=")[0].replace("<", "&lt;") in page


@pytest.mark.parametrize(
    "path",
    [
        "/batches?page=0",
        "/batches?page=-1",
        "/batches?page=99999999999999999999",
        "/batches?page=²",
        "/batches?since=99999999999&until=x",
        "/batches?since=99999d",
        "/batches?since=9999-99-99",
        "/batches?since=0001-01-01T00:00:00%2B23:59",
        "/batches?state=%00&project=../..&q=%ff%fe",
        "/batches?q=" + "x" * 5000,
        "/batches?q=<script>alert(1)</script>",
        "/batches/..%2f..%2fetc",
        "/batches/%00",
        "/batches/a.b",
        "/batches/" + "x" * 500,
        "/batches/a/b/c/d",
        "/batches/x.y/abc",
        "/batches/abc/results?page=-5",
        "/batches/abc/results?page=999999999999999",
        "/batches/abc/results/99999999999",
        "/batches/abc/results/x",
        "/batches/abc/results/0/media/x",
        "/batches/abc/results?key=%ed%a0%80",
        "/deliveries?before=1-1&outcome=x",
        "/deliveries?before=999999999999999999-999999999999999999",
        "/deliveries?before=99999999999999999999999-1",
        "/actions?before=x",
        "/actions/new",
        "/actions/new?action=drop&state=failed",
        "/actions/bulk/none",
        "/assets/..%2fcli.py",
        "/assets/style.css",
        "//",
        "/%2e%2e/",
        "/batches.json.json",
        "/?" + "&".join(f"a{n}=1" for n in range(2000)),
    ],
)
def test_no_url_breaks_a_page(console: Console, seeds: Seeds, batch: str, path: str) -> None:
    seeds.everything()
    path = path.replace("/abc/", f"/{batch}/")
    for each in (path, re.sub(r"(\?|$)", r".json\1", path, count=1)):
        answer = console.get(each)
        assert answer.status_code < 500, answer.text
        assert "<script>alert" not in answer.text


def test_deliveries_are_newest_first_and_filtered_by_outcome(console: Console, seeds: Seeds) -> None:
    for number in range(230):
        seeds.delivered(
            Delivered.ACCEPTED, batch=f"b{number}", type="batch.succeeded", webhook_id=f"msg_{number}"
        )
    seeds.delivered(Delivered.REFUSED, reason="no <b>signature</b>", count=3)
    first = console.json("/deliveries.json")

    assert "refused" in {each["outcome"] for each in first["deliveries"]}
    assert first["counts"]["accepted"] == 230
    second = console.json(f"/deliveries.json?before={first['next']}")
    both = [*first["deliveries"], *second["deliveries"]]
    assert [each["batch"] for each in both if "batch" in each] == [f"b{229 - n}" for n in range(199)]
    assert [e["reason"] for e in console.json("/deliveries.json?outcome=refused")["deliveries"]] == [
        "no <b>signature</b>"
    ]
    assert "no &lt;b&gt;signature" in console.get("/deliveries?outcome=refused").text


def test_workers_and_queues_are_told_as_they_are(console: Console, deployment: Deployment) -> None:
    assert "No pool of workers is alive" in console.get("/workers").text
    assert console.json("/badges.json")["workers"] == 0
    deployment.work("--workers", "2")

    def alive() -> Any:
        found = console.json("/workers.json")
        return found if found["alive"] == 2 and found["trouble"] is None else None

    seen = wait_until(alive, what="two workers")
    assert {queue["name"] for queue in seen["queues"]} == {"batch-receiver-batches", "batch-receiver-parts"}
    assert all(worker["alive"] for worker in seen["workers"])


def test_the_checks_are_doctors_and_act_only_when_asked(console: Console) -> None:
    def done() -> Any:
        found = console.json("/checks.json")
        return found["checks"] and not found["running"] and found

    seen = wait_until(done, what="the checks")
    assert {check["name"] for check in seen["checks"]} >= {"settings", "redis", "workers", "versions"}
    assert "bucket" not in {check["name"] for check in seen["checks"]}
    assert console.post("/checks").status_code == 303
    again = wait_until(done, what="all checks")
    assert {"bucket", "ping"} <= {check["name"] for check in again["checks"]}
    assert console.json("/actions.json")["actions"][0]["action"] == "checks"


def test_metrics_and_health_are_there_for_machines(console: Console, seeds: Seeds) -> None:
    seeds.everything()
    answer = console.get("/metrics")

    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert 'batch_receiver_batches{project="default",state="given-up"} 2.0' in answer.text
    assert console.get("/healthz").json() == {"status": "ok"}


def test_without_redis_a_page_says_so_and_comes_back(
    start_console: Callable[..., Console], tmp_path: Path
) -> None:
    console = start_console(REDIS_URL="redis://127.0.0.1:1/0")

    assert console.get("/healthz").status_code == 200
    answer = console.get("/batches")
    assert answer.status_code == 503
    assert "Redis does not answer" in answer.text
    assert console.get("/batches.json").status_code == 503
    del tmp_path


def test_assets_carry_their_hash_and_never_change(console: Console) -> None:
    page = console.get("/batches").text
    paths = re.findall(r'(?:href|src)="(/assets/[^"]+)"', page)

    assert len(set(paths)) == 3
    for path in paths:
        answer = console.get(path)
        assert answer.status_code == 200
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert "style=" not in page
    assert "<script>" not in page
    assert " on" + "click" not in page
