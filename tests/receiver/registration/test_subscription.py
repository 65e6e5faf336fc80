"""What has to be done for one webhook a URL, and which secrets are recognised in what Gemini shows of them."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from receiver.registration.subscription import Create, Nothing, Update, Wanted, plan, still_valid
from workers.gemini.access import Secret
from workers.gemini.webhooks import BATCH_EVENTS, SigningSecret, Webhook, same_url, signs_with

URL = "https://example.com/webhooks/gemini"
OLD = Secret("whsec_b2xkb2xkb2xkb2xkb2xkb2xk")
NEW = Secret("whsec_bmV3bmV3bmV3bmV3bmV3bmV3")


def listed(**fields: Any) -> Webhook:
    values = {"id": "x", "uri": URL, "subscribed_events": list(BATCH_EVENTS), "state": "enabled", **fields}
    return Webhook(**values)


def test_the_plan_changes_only_what_differs() -> None:
    wanted = Wanted(URL)
    shuffled = listed(subscribed_events=list(reversed(BATCH_EVENTS)), name="given by hand")
    disabled = listed(state="disabled")
    fewer = listed(subscribed_events=["batch.failed"])

    assert plan(None, wanted) == Create()
    assert plan(shuffled, wanted) == Nothing(shuffled)
    assert plan(disabled, wanted) == Update(disabled, {"state": "enabled"})
    assert plan(fewer, wanted) == Update(fewer, {"subscribed_events": list(BATCH_EVENTS)})
    assert plan(listed(), Wanted(URL, name="n")) == Update(listed(), {"name": "n"})


def test_urls_are_compared_as_addresses() -> None:
    assert same_url("https://Example.com:443/a", "https://example.com/a")
    assert not same_url("https://example.com/a", "https://example.com/A")
    assert same_url("no url\x00", "no url\x00")


def test_a_list_that_shows_no_secrets_proves_nothing() -> None:
    secrets = [Secret("whsec_b2xkbGQx"), Secret("whsec_bmV3ZXcx")]
    shown = listed(signing_secrets=[SigningSecret("...bGQx")])
    now = datetime.now(UTC)

    assert still_valid(secrets, [shown], now) == secrets[:1]
    assert still_valid(secrets, [shown, listed(id="y")], now) == secrets


def secrets(*shown: dict[str, Any]) -> Webhook:
    return listed(signing_secrets=msgspec.convert(list(shown), list[SigningSecret]))


def test_during_a_rotation_only_the_newest_secret_counts() -> None:
    rotating = secrets(
        {"truncated_secret": "...bGQx", "expire_time": "2099-01-01T00:00:00Z"},
        {"truncated_secret": "...ZXcx"},
    )
    assert signs_with(rotating, [Secret("whsec_bmV3ZXcx")])
    assert not signs_with(rotating, [Secret("whsec_b2xkbGQx")])
    assert not signs_with(secrets(), [Secret("whsec_b2xkbGQx")])


@pytest.mark.parametrize(
    "shortened",
    ["bmV3bmV3", "whsec_bmV3", "whsec_bmV3...", "...bmV3", "bm…V3", "whsec_bm****V3", NEW.reveal()],
)
def test_a_secret_is_recognised_by_what_is_shown_of_it(shortened: str) -> None:
    assert NEW.is_shown_as(shortened)
    assert not OLD.is_shown_as(shortened)


@pytest.mark.parametrize("shortened", ["", "...", "whsec_", "whsec_...", "V3", "bmV…", "V3bmV...V3"])
def test_too_little_or_something_else_recognises_nothing(shortened: str) -> None:
    assert not NEW.is_shown_as(shortened)
