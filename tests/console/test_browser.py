"""The console as people use it, in a real browser that complains about nothing."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.console.browsing import NARROW, WIDE, Tab, running_browser
from tests.console.conftest import Console
from tests.console.seeding import HOSTILE_KEY, HOSTILE_TEXT, Seeds, lines
from tests.support.deployment import Deployment
from tests.support.stores import npm_file
from tests.support.waiting import wait_until
from workers.contract import Announcement, Trigger
from workers.contract.history.states import BatchState

PATHS = (
    "/batches",
    "/batches?q=nothing",
    "/batches/committed1",
    "/batches/f2q9w4e7r1t6y3",
    "/batches/committed1/results",
    "/batches/committed1/results/0",
    "/deliveries",
    "/workers",
    "/checks",
    "/actions",
    "/actions/new?state=given-up",
    "/nowhere",
)
PATIENCE_MS = 60_000

OpenTab = Callable[..., Tab]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser() as found:
        yield found


@pytest.fixture
def open_tab(browser: Browser, console: Console) -> Iterator[OpenTab]:
    """`open_tab(width=…, color_scheme=…)`; at the end, none of them may have complained."""
    tabs: list[Tab] = []

    def opened(**options: Any) -> Tab:
        tabs.append(Tab(browser, console.url, **options))
        return tabs[-1]

    yield opened
    complaints = [complaint for tab in tabs for complaint in tab.complaints]
    for tab in tabs:
        tab.context.close()
    # That a page which is not there is answered with 404 is what the test of it asks for.
    assert [each for each in complaints if "status of 404" not in each] == []


@pytest.fixture
def tab(open_tab: OpenTab) -> Tab:
    return open_tab()


@pytest.fixture
def batch(deployment: Deployment, seeds: Seeds) -> str:
    """One of many kinds of results, among others."""
    seeds.everything()
    name = deployment.gemini.put_batch(b"".join(lines()), batch_id="committed1", display_name="Many kinds")
    assert deployment.run("process", name).returncode == 0
    seeds.committed(name, ago=20, total=125, failed=1, display_name="Many kinds")
    return name


def violations(page: Page) -> list[tuple[str, str]]:
    """What axe-core finds wrong for people who see, hear or move otherwise."""
    page.evaluate(npm_file("axe-core/axe.min.js").read_text())
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [(each["id"], each["nodes"][0]["html"][:200]) for each in found["violations"]]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [WIDE, NARROW])
@pytest.mark.usefixtures("batch")
def test_every_page_is_accessible_and_scrolls_inside_its_tables(
    open_tab: OpenTab, scheme: str, width: int
) -> None:
    tab = open_tab(width=width, color_scheme=scheme)
    for path in PATHS:
        page = tab.open(path)
        wide = page.evaluate("document.scrollingElement.scrollWidth - document.documentElement.clientWidth")

        assert wide <= 0, path
        assert violations(page) == [], path
    page.keyboard.press("?")
    expect(page.locator("#help")).to_be_visible()
    assert violations(page) == []


def test_a_running_batch_is_followed_to_its_commit_without_a_reload(
    tab: Tab, deployment: Deployment, seeds: Seeds
) -> None:
    deployment.work("--workers", "1")
    batch = deployment.gemini.put_batch(b"".join(lines()), batch_id="running1", state="RUNNING")
    seeds.queues.announce([Announcement(batch, Trigger.WEBHOOK)])
    page = tab.open("/batches")
    expect(page.locator("#list")).to_contain_text(batch)
    page.get_by_role("link", name=batch).first.click()
    page.evaluate("window.isTheSame = true")
    expect(page.locator("#state")).to_contain_text("waiting", timeout=PATIENCE_MS)
    deployment.gemini.change(batch, "SUCCEEDED")
    seeds.queues.announce([Announcement(batch, Trigger.WEBHOOK)])

    expect(page.locator("#state")).to_contain_text("succeeded", timeout=PATIENCE_MS)
    expect(page.locator("#timeline")).to_contain_text("Committed")
    expect(page.locator("#facts")).to_contain_text("125")
    expect(page.locator("#live")).to_be_empty()
    assert page.evaluate("window.isTheSame")


def test_a_failed_batch_is_replayed_and_seen_to_succeed(
    tab: Tab, deployment: Deployment, seeds: Seeds
) -> None:
    batch = deployment.gemini.put_batch(b"".join(lines()), batch_id="failed1")
    seeds.failed(batch, "The disk was full.")
    deployment.work("--workers", "1")
    page = tab.open("/batches")
    expect(page.locator('[data-badge="failed"]')).to_have_text("1")
    page.get_by_role("link", name="failed for good").click()
    page.locator("[data-row]").click()
    expect(page.locator("#troubles")).to_contain_text("The disk was full.")
    page.get_by_role("button", name="Replay").click()

    expect(page.get_by_role("status").first).to_have_text("It is enqueued.")
    expect(page.locator("#state")).to_contain_text("succeeded", timeout=PATIENCE_MS)
    expect(page.locator("#troubles")).not_to_contain_text("The disk was full.")


@pytest.mark.usefixtures("batch")
def test_a_verification_shows_how_far_it_is_and_what_it_found(tab: Tab) -> None:
    page = tab.open("/batches/committed1")
    page.get_by_role("button", name="Verify").click()

    expect(page.locator("#verification")).to_contain_text(
        "Everything is as it should be", timeout=PATIENCE_MS
    )


def test_a_bulk_action_is_counted_confirmed_and_followed(tab: Tab, seeds: Seeds) -> None:
    for number in range(60):
        seeds.failed(f"f{number}", "It broke.", display_name="broken")
    seeds.failed("other", "It broke.", display_name="another")
    page = tab.open("/batches")
    page.get_by_label("Batch or display name").fill("broken")
    page.keyboard.press("Enter")
    page.get_by_role("link", name="Replay all 60 that match").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Replay 60 batches?")
    page.get_by_role("button", name="Replay 60 batches").click()

    expect(page.locator("#state")).to_contain_text("done", timeout=PATIENCE_MS)
    expect(page.locator("#progress")).to_contain_text("60 of 60: 60 enqueued")
    page.get_by_role("link", name="To the log of actions").click()
    expect(page.locator("main")).to_contain_text("bulk replay done")
    assert seeds.queues.queue(seeds.queues.batches).count == 60


@pytest.mark.usefixtures("batch")
def test_a_key_is_searched_and_its_answer_opened(tab: Tab) -> None:
    page = tab.open("/batches/committed1/results")
    page.get_by_role("searchbox", name="Key").fill("request-0077")
    page.keyboard.press("Enter")
    expect(page.locator("tbody tr")).to_have_count(1)
    expect(page.locator("main")).not_to_contain_text("Answer number")
    page.get_by_role("link", name="request-0077").click()

    expect(page.locator("#text")).to_have_text("Answer number 77.")
    page.get_by_text("Raw line").click()
    expect(page.locator("details[open] pre")).to_contain_text('"candidates"')


@pytest.mark.usefixtures("batch")
def test_an_image_is_shown_small_and_a_thought_when_it_is_opened(tab: Tab) -> None:
    page = tab.open("/batches/committed1/results?key=image")
    page.get_by_role("link", name="image", exact=True).click()
    image = page.get_by_alt_text("Medium 0")
    expect(image).to_be_visible()
    wait_until(lambda: image.evaluate("image => image.naturalWidth") == 1, what="the image")
    tab.open("/batches/committed1/results?key=thinking")
    page.get_by_role("link", name="thinking", exact=True).click()
    expect(page.get_by_text("First I think.", exact=True)).not_to_be_visible()
    page.get_by_text("Thoughts", exact=True).click()
    expect(page.get_by_text("First I think.", exact=True)).to_be_visible()


@pytest.mark.usefixtures("batch")
def test_a_hostile_key_and_text_are_only_text(tab: Tab) -> None:
    page = tab.open("/batches/committed1/results?key=%3Cscript%3E")
    expect(page.get_by_role("searchbox", name="Key")).to_have_value("<script>")
    page.locator("[data-row]").click()
    text = page.locator("#text")
    expect(text).to_be_visible()

    assert page.locator("h1").text_content() == HOSTILE_KEY
    assert text.text_content() == HOSTILE_TEXT
    assert page.locator("main script, main img").count() == 0
    tab.open("/batches?q=%22%3E%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E")
    assert page.locator("main img").count() == 0


@pytest.mark.usefixtures("batch")
def test_the_keyboard_is_enough(tab: Tab) -> None:
    page = tab.open("/workers")
    for keys, path in (("gd", "/deliveries"), ("gc", "/checks"), ("ga", "/actions"), ("gb", "/batches")):
        for key in keys:
            page.keyboard.press(key)
        page.wait_for_url(f"**{path}")
    page.keyboard.press("?")
    expect(page.locator("#help")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#help")).not_to_be_visible()
    page.keyboard.press("/")
    page.keyboard.type("many kinds")
    page.keyboard.press("Enter")
    page.wait_for_url("**q=many+kinds**")
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("k")
    page.keyboard.press("Enter")
    page.wait_for_url("**/batches/committed1")
    page.get_by_role("button", name="Replay").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("status").first).to_have_text("It is enqueued.")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"


def test_what_is_selected_or_in_use_is_left_alone_and_a_hidden_page_does_not_ask(
    tab: Tab, seeds: Seeds
) -> None:
    seeds.in_state("one", BatchState.WAITING, display_name="first")
    page = tab.open("/batches")
    page.locator(".name").first.evaluate("name => document.getSelection().selectAllChildren(name)")
    seeds.in_state("two", BatchState.WAITING, display_name="second", ago=0)
    for _ in range(2):
        with page.expect_response(lambda answer: answer.url.endswith("/batches")):
            pass
    assert "second" not in page.locator("#list").inner_text()
    page.evaluate("document.getSelection().removeAllRanges()")
    expect(page.locator("#list")).to_contain_text("second", timeout=PATIENCE_MS)
    page.evaluate("Object.defineProperty(document, 'hidden', {value: true, configurable: true})")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.wait_for_timeout(5000)

    assert asked == []


@pytest.mark.usefixtures("batch")
def test_without_javascript_everything_works_only_not_live(open_tab: OpenTab, seeds: Seeds) -> None:
    tab = open_tab(java_script_enabled=False)
    for path in PATHS:
        tab.open(path)
        expect(tab.page.locator("h1")).to_be_visible()
        expect(tab.page.locator("[data-script]:visible")).to_have_count(0)
    page = tab.open("/batches")
    page.get_by_label("State").select_option("given-up")
    page.get_by_role("button", name="Filter").click()
    page.get_by_role("link", name="Replay all 2 that match").click()
    page.get_by_role("button", name="Replay 2 batches").click()
    page.wait_for_url("**/actions/bulk/*")
    wait_until(lambda: seeds.queues.queue(seeds.queues.batches).count == 2, what="two replays")
    tab.open("/batches/committed1/results")
    page.get_by_role("searchbox", name="Key").fill("request-0077")
    page.get_by_role("button", name="Search").click()
    page.get_by_role("link", name="request-0077").click()
    expect(page.locator("#text")).to_have_text("Answer number 77.")
    tab.open("/batches/committed1")
    page.get_by_role("button", name="Replay").click()
    expect(page.get_by_role("status").first).to_have_text("It is enqueued.")
