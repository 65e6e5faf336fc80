"""Who gets in, what may change something, and what every answer says to a browser."""

import base64
from collections.abc import Callable

import pytest

from console.throttle import BURST, SECONDS, Throttle
from tests.console.conftest import Console
from tests.console.seeding import Seeds

PASSWORD = "correct horse battery"


def basic(password: str, user: str = "admin") -> dict[str, str]:
    return {"authorization": f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"}


@pytest.mark.parametrize(
    "path", ["/", "/nowhere", "/healthz", "/batches/x/results", "/assets/none.css", "/metrics"]
)
def test_every_answer_tells_browsers_to_run_nothing_of_others_and_to_be_framed_by_nobody(
    console: Console, path: str
) -> None:
    headers = console.get(path).headers
    policy = headers["content-security-policy"]

    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"


@pytest.mark.parametrize("path", ["/batches/abc/replay", "/batches/abc/verify", "/actions/bulk", "/checks"])
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "none"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:1"},
        {"sec-fetch-site": "cross-site", "origin": "OWN"},
    ],
)
def test_a_request_that_changes_something_is_refused_unless_it_is_from_our_pages(
    console: Console, seeds: Seeds, path: str, headers: dict[str, str]
) -> None:
    told = {name: console.url if value == "OWN" else value for name, value in headers.items()}

    assert console.http.post(path, headers=told).status_code == 403
    assert seeds.queues.queue(seeds.queues.batches).count == 0


def test_an_origin_equal_to_the_host_stands_in_for_a_missing_fetch_site(console: Console) -> None:
    answer = console.http.post(
        "/batches/abc/replay", headers={"origin": console.url, "accept": "application/json"}
    )

    assert answer.json() == {"batch": "abc", "status": "accepted"}


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8090", "127.0.0.1.evil.example", "[::2]", "@", ""]
)
def test_on_this_machine_a_name_that_leads_here_from_elsewhere_is_refused(
    console: Console, host: str
) -> None:
    assert console.get("/batches", headers={"host": host}).status_code in {400, 421}
    assert console.get("/batches", headers={"host": "localhost:1234"}).status_code == 200
    assert console.get("/batches", headers={"host": "[::1]:1234"}).status_code == 200


def test_read_only_shows_everything_and_changes_nothing(
    start_console: Callable[..., Console], seeds: Seeds
) -> None:
    seeds.failed("f1", "It broke.")
    console = start_console(CONSOLE_READ_ONLY="on")

    assert console.post("/batches/f1/replay").status_code == 403
    page = console.get("/batches/f1").text
    assert "It broke." in page
    assert "<form method" not in page
    assert "read only" in page
    assert seeds.queues.queue(seeds.queues.batches).count == 0


def test_an_address_that_others_reach_demands_that_people_sign_in(
    start_console: Callable[..., Console],
) -> None:
    with pytest.raises(AssertionError, match="set CONSOLE_PASSWORD, or CONSOLE_TRUST_USER_HEADER"):
        start_console("--host", "0.0.0.0")


def test_with_a_password_nothing_but_the_health_is_shown_without_it(
    start_console: Callable[..., Console],
) -> None:
    console = start_console("--host", "0.0.0.0", CONSOLE_PASSWORD=PASSWORD)
    console.http.base_url = console.url.replace("0.0.0.0", "127.0.0.1")

    assert console.get("/healthz").json() == {"status": "ok"}
    for path in ("/batches", "/batches.json", "/metrics", "/assets/style.css", "/badges.json"):
        answer = console.get(path)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Basic ")
    assert console.get("/batches", headers=basic(PASSWORD)).status_code == 200
    assert console.get("/batches", headers=basic(PASSWORD, "root")).status_code == 401
    assert PASSWORD not in console.process.output


def test_failed_logins_are_slowed_down_and_the_right_password_is_not_tried_meanwhile(
    start_console: Callable[..., Console],
) -> None:
    console = start_console(CONSOLE_PASSWORD=PASSWORD)
    statuses = [console.get("/batches", headers=basic(f"wrong {n}")).status_code for n in range(BURST + 1)]

    assert statuses[:BURST] == [401] * BURST
    assert statuses[BURST] == 429
    answer = console.get("/batches", headers=basic(PASSWORD))
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) >= 1


def test_a_proxy_says_who_it_is_in_one_header_and_that_is_who_acts(
    start_console: Callable[..., Console],
) -> None:
    console = start_console("--host", "0.0.0.0", CONSOLE_TRUST_USER_HEADER="X-Forwarded-User")
    console.http.base_url = console.url.replace("0.0.0.0", "127.0.0.1")

    assert console.get("/batches").status_code == 401
    forged = [("x-forwarded-user", "mallory"), ("x-forwarded-user", "mira@example.com")]
    assert console.http.get("/batches", headers=forged).status_code == 401
    mira = {"x-forwarded-user": "mira@example.com"}
    assert console.post("/batches/abc/replay", None, **mira).status_code == 303
    [entry] = console.get("/actions.json", headers=mira).json()["actions"]
    assert (entry["who"], entry["action"], entry["batch"]) == ("mira@example.com", "replay", "abc")


def test_wrong_credentials_of_every_form_are_401(start_console: Callable[..., Console]) -> None:
    console = start_console(CONSOLE_PASSWORD=PASSWORD)
    forms = ["Basic", "Basic !!!", "Bearer x", "Basic " + base64.b64encode(b"admin").decode()]

    for given in forms[:BURST]:
        assert console.get("/", headers={"authorization": given}).status_code == 401


def test_a_quiet_address_may_try_again_and_others_are_not_held_up() -> None:
    now = [0.0]
    throttle = Throttle(lambda: now[0])
    for _ in range(BURST):
        assert throttle.wait("a") == 0
        throttle.failed("a")

    assert throttle.wait("a") > 0
    assert throttle.wait("b") == 0
    now[0] += SECONDS
    assert throttle.wait("a") == 0
    for number in range(5000):
        throttle.failed(f"address {number}")
    assert len(throttle._free_at) <= 1000
