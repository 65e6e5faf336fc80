"""One console over several projects: whose batch it is stands everywhere, and trouble in one stays in it."""

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
import redis
from playwright.sync_api import expect

from tests.console.browsing import NARROW, Tab, running_browser
from tests.console.conftest import Console, Start
from tests.console.seeding import Seeds, lines
from tests.support.projects import Projects
from tests.support.waiting import wait_until
from workers.contract.history.states import BatchState, Delivered

SAME = "inboth1"
PAGES = ("/batches", "/deliveries", "/workers", "/checks", "/actions")


class Two(Console):
    """A console that shows `search` and `ads`."""

    def __init__(self, start: Start, projects: Projects, *options: str) -> None:
        self.process = start("console", "--port", "0", *options, env=projects.env)
        self.url = self.process.wait_for_output(r"listening on (http://\S+)")[1]
        self.http = httpx.Client(base_url=self.url, timeout=30, trust_env=False)


@pytest.fixture
def open_console(start_process: Start, projects: Projects) -> Iterator[Callable[..., Two]]:
    opened: list[Two] = []

    def start(*options: str) -> Two:
        opened.append(Two(start_process, projects, *options))
        return opened[-1]

    yield start
    for console in opened:
        console.http.close()


@pytest.fixture
def two(open_console: Callable[..., Two]) -> Two:
    return open_console()


@pytest.fixture
def search(redis_client: "redis.Redis") -> Seeds:
    return Seeds(redis_client, "batch-receiver-project-search")


@pytest.fixture
def ads(redis_client: "redis.Redis") -> Seeds:
    return Seeds(redis_client, "batch-receiver-project-ads")


@pytest.fixture
def same(projects: Projects, search: Seeds, ads: Seeds) -> str:
    """The id of a batch that both projects have: of 125 results in `search`, of 2 in `ads`."""
    for name, seeds, content in (("search", search, lines()), ("ads", ads, lines(2)[:2])):
        projects.geminis[name].put_batch(b"".join(content), batch_id=SAME, display_name=f"of {name}")
        assert projects.run("process", f"{name}/{SAME}").returncode == 0
        seeds.committed(SAME, total=len(content), display_name=f"of {name}")
    return SAME


def test_the_list_has_all_projects_newest_first_and_one_of_them_when_asked(
    two: Two, search: Seeds, ads: Seeds
) -> None:
    for number in range(70):
        (search if number % 3 else ads).committed(f"b{number:02d}", ago=100.0 + 60 * number)
    search.committed("same", ago=5)
    ads.committed("same", ago=1)
    first, second = (two.json(f"/batches.json?page={number}") for number in (1, 2))

    found = [(each["project"], each["batch"]) for each in [*first["batches"], *second["batches"]]]
    assert found[:3] == [("ads", "same"), ("search", "same"), ("ads", "b00")]
    assert [batch for _, batch in found[2:]] == [f"b{number:02d}" for number in range(70)]
    assert (first["total"], first["counts"]["succeeded"], len(second["batches"])) == (72, 72, 22)
    one = two.json("/batches.json?project=ads")
    assert {each["project"] for each in one["batches"]} == {"ads"}
    assert one["total"] == one["counts"]["succeeded"] == 25
    assert two.json("/batches.json?project=ads&q=b0")["total"] == 4
    assert two.json("/batches.json?project=nobody")["total"] == 0
    page = two.get("/batches").text
    assert 'href="/batches/ads/same"' in page
    assert 'href="/batches/search/same"' in page
    assert '<option value="ads">ads</option>' in page


def test_an_id_that_two_projects_have_is_two_batches(two: Two, same: str) -> None:
    totals = {
        name: two.json(f"/batches/{name}/{same}.json")["summary"]["counts"]["total"]
        for name in ("search", "ads")
    }

    assert totals == {"search": 125, "ads": 2}
    assert len(two.json(f"/batches/ads/{same}/results.json")["results"]) == 2
    answer = two.get(f"/batches/search/{same}/results?key=request-0077")
    assert f'href="/batches/search/{same}/results/' in answer.text
    nobody = two.get(f"/batches/{same}")
    assert nobody.status_code == 404
    assert f"/batches/search/{same} or /batches/ads/{same}" in nobody.text
    assert two.get(f"/batches/nobody/{same}").status_code == 404


def test_what_is_done_to_a_batch_is_done_in_its_project(
    two: Two, search: Seeds, ads: Seeds, same: str
) -> None:
    answer = two.post(f"/batches/ads/{same}/replay")

    assert answer.headers["location"] == f"/batches/ads/{same}?done=accepted"
    assert ads.queues.queue(ads.queues.batches).get_job_ids() == [ads.queues.batch_job_id(same)]
    assert search.queues.queue(search.queues.batches).get_job_ids() == []
    assert two.post(f"/batches/search/{same}/verify").status_code == 303
    report = wait_until(
        lambda: two.json(f"/batches/search/{same}.json")["verification"]["report"], what="the verification"
    )
    assert report["good"] is True
    assert two.json(f"/batches/ads/{same}.json")["verification"] is None
    log = two.json("/actions.json")["actions"]
    assert [(each["project"], each["action"]) for each in log] == [("search", "verify"), ("ads", "replay")]
    assert f'href="/batches/ads/{same}"' in two.get("/actions").text


def test_a_bulk_action_reaches_all_projects_that_match_or_one(two: Two, search: Seeds, ads: Seeds) -> None:
    for number in range(60):
        search.failed(f"f{number}", "It broke.")
        ads.failed(f"f{number}", "It broke.")
    one = two.json("/actions/new.json?action=replay&state=given-up&project=ads")
    assert (one["matching"], one["first"][0][:5]) == (60, "ads/f")
    path = two.post("/actions/bulk", {"action": "replay", "state": "given-up"}).headers["location"]

    done = wait_until(
        lambda: (seen := two.json(f"{path}.json"))["state"] != "running" and seen, what="the bulk action"
    )
    assert (done["done"], done["accepted"]) == (120, 120)
    for seeds in (search, ads):
        assert seeds.queues.queue(seeds.queues.batches).count == 60
    log = two.json("/actions.json")["actions"]
    assert {(each["project"], each["action"], each["batches"]) for each in log} == {
        (name, action, "60") for name in ("search", "ads") for action in ("bulk-replay", "bulk-replay-done")
    }


def test_deliveries_of_all_projects_go_on_where_a_page_ends(two: Two, search: Seeds, ads: Seeds) -> None:
    for number in range(130):
        (search if number % 2 else ads).delivered(Delivered.ACCEPTED, batch=f"b{number:03d}")
    first = two.json("/deliveries.json")
    second = two.json(f"/deliveries.json?before={first['next']}")

    told = [(each["project"], each["batch"]) for each in [*first["deliveries"], *second["deliveries"]]]
    assert sorted(told) == sorted(("search" if n % 2 else "ads", f"b{n:03d}") for n in range(130))
    one = two.json("/deliveries.json?project=ads")
    assert {each["project"] for each in one["deliveries"]} == {"ads"}
    assert one["counts"]["accepted"] == 65


def test_trouble_in_one_project_is_named_and_leaves_the_others_alone(
    open_console: Callable[..., Two], projects: Projects, ads: Seeds, same: str
) -> None:
    """Its bucket is a file, its key is refused, and for the other one somebody works."""
    del same
    (projects.folder / "a-file").touch()
    (projects.folder / "ads.key").write_text("revoked")
    projects.tables["ads"]["storage"] = (projects.folder / "a-file" / "bucket").as_uri()
    projects.write()
    projects.work("--workers", "1", "--wait")
    two = open_console()
    ads.in_state("abc", BatchState.WAITING, reason="The key is refused.")

    assert two.get("/batches").status_code == two.get(f"/batches/search/{SAME}/results").status_code == 200
    broken = two.get("/batches/ads/abc")
    assert broken.status_code == 200
    assert "a-file" in broken.text
    assert two.get("/batches/ads/abc/results").status_code == 503

    def told() -> bool:
        found = two.json("/workers.json")["projects"]
        return found["ads"]["trouble"] is not None and found["search"]["trouble"] is None

    wait_until(told, seconds=60, what="the project in trouble")
    assert two.get("/workers?project=ads").status_code == 200
    assert [each["project"] for each in two.json("/workers.json?project=search")["queues"]] == ["search"] * 2
    assert 'batches{project="ads",state="waiting"} 1.0' in two.get("/metrics").text
    assert 'batches{project="search",state="succeeded"} 1.0' in two.get("/metrics").text
    two.post("/checks")

    def done() -> Any:
        seen = two.json("/checks.json")
        return seen["whole"] and not seen["running"] and seen

    checks = wait_until(done, seconds=60, what="the checks")["checks"]
    by_name = {check["name"]: check["status"] for check in checks}
    assert (by_name["ads: bucket"], by_name["search: bucket"]) == ("failed", "ok")
    assert (by_name["ads: api key"], by_name["search: api key"]) == ("failed", "ok")
    assert by_name["redis"] != "failed"
    mine = two.json("/checks.json?project=search")["checks"]
    assert {check["name"].partition(":")[0] for check in mine} == {"search"}


def test_a_project_without_a_storage_is_told_on_its_own_pages(
    open_console: Callable[..., Two], projects: Projects, same: str
) -> None:
    del projects.tables["ads"]["storage"]
    projects.write()
    two = open_console()

    assert two.get(f"/batches/search/{same}").status_code == 200
    assert "No storage is set for project ads" in two.get(f"/batches/ads/{same}").text
    assert two.get(f"/batches/ads/{same}/results.json").status_code == 503


def test_one_project_of_several_has_a_console_with_the_paths_of_one(
    open_console: Callable[..., Two], search: Seeds, ads: Seeds, same: str
) -> None:
    one = open_console("--project", "ads")
    search.failed("f1", "It broke.")

    assert one.json(f"/batches/{same}.json")["summary"]["counts"]["total"] == 2
    assert one.json("/batches.json")["total"] == 1
    assert one.post(f"/batches/{same}/replay").headers["location"] == f"/batches/{same}?done=accepted"
    assert ads.queues.queue(ads.queues.batches).count == 1
    assert "any project" not in one.get("/batches").text


def test_doctor_looks_at_each_project_and_at_one_when_asked(projects: Projects) -> None:
    (projects.folder / "ads.key").write_text("revoked")
    ended = projects.run("doctor", "--json", "--project", "search")
    both = projects.run("doctor", "--markdown")

    assert '"name":"bucket","status":"ok"' in ended.output
    assert "ads" not in ended.output
    assert "| search: api key | ok |" in both.output
    assert "| ads: api key | failed |" in both.output
    assert both.output.count("| redis | ok |") == 1
    assert both.returncode == 1
    assert "revoked" not in both.output
    assert projects.run("doctor", "--url", "https://hooks.example.com/webhooks/ads").returncode == 2


def test_in_the_browser_a_project_is_chosen_and_its_batch_opened(two: Two, same: str, search: Seeds) -> None:
    search.failed("f1", "It broke.", display_name="broken")
    with running_browser() as browser:
        tab = Tab(browser, two.url, width=NARROW)
        page = tab.open("/batches")
        expect(page.locator("[data-row]")).to_have_count(3)
        page.get_by_label("Project").select_option("ads")
        page.wait_for_url("**project=ads**")
        expect(page.locator("[data-row]")).to_have_count(1)
        page.locator("[data-row]").click()
        page.wait_for_url(f"**/batches/ads/{same}")
        expect(page.locator("#facts")).to_contain_text("2 in all")
        page.get_by_role("link", name="Results", exact=True).click()
        page.wait_for_url(f"**/batches/ads/{same}/results")
        for path in PAGES:
            tab.open(path)
            wide = page.evaluate(
                "document.scrollingElement.scrollWidth - document.documentElement.clientWidth"
            )
            assert wide <= 0, path
        assert tab.complaints == []
        tab.context.close()
