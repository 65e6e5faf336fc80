"""The WebhookService, called by the official SDK."""

import base64
from datetime import UTC, datetime, timedelta

import pytest
from google import genai
from google.genai.webhooks import Webhook

from tests.emulator.listener import Listener
from tests.support.gemini import Gemini
from tests.support.waiting import wait_until

EVENTS = ["batch.succeeded", "batch.failed"]


def _create(client: genai.Client, uri: str = "https://my-api.com/gemini-callback") -> Webhook:
    webhook: Webhook = client.webhooks.create(name="MyBatchWebhook", subscribed_events=EVENTS, uri=uri)
    return webhook


def test_a_webhook_is_created_with_a_secret_that_is_shown_this_once(client: genai.Client) -> None:
    webhook = _create(client)
    assert (webhook.name, webhook.state, webhook.subscribed_events) == ("MyBatchWebhook", "enabled", EVENTS)
    secret = str(webhook.new_signing_secret)
    assert len(base64.b64decode(secret.removeprefix("whsec_"), validate=True)) == 32

    found = client.webhooks.get(id=str(webhook.id))
    assert found.new_signing_secret is None
    (truncated,) = found.signing_secrets or []
    assert truncated.truncated_secret
    assert secret not in truncated.truncated_secret
    assert truncated.expire_time is None


def test_the_pages_curl_example_chooses_the_id(gemini: Gemini) -> None:
    body = {
        "name": "My Example Webhook",
        "uri": "https://my-api.com/gemini-callback",
        "subscribed_events": EVENTS,
    }
    path = "/v1/webhooks?webhook_id=my-example-webhook-123"
    assert gemini.http.post(path, json=body).json()["id"] == "my-example-webhook-123"
    assert gemini.http.post(path, json=body).json()["error"]["status"] == "ALREADY_EXISTS"


def test_webhooks_are_listed_over_pages(client: genai.Client) -> None:
    created = [_create(client).id for _ in range(5)]
    first = client.webhooks.list(page_size=3)
    second = client.webhooks.list(page_size=3, page_token=str(first.next_page_token))
    assert [each.id for page in (first, second) for each in page.webhooks or []] == created[::-1]
    assert second.next_page_token is None


def test_an_update_changes_what_its_mask_names_and_nothing_else(client: genai.Client) -> None:
    webhook_id = str(_create(client).id)
    client.webhooks.update(id=webhook_id, update_mask="state", state="disabled", name="Ignored")
    client.webhooks.update(id=webhook_id, subscribed_events=["batch.expired"])
    found = client.webhooks.get(id=webhook_id)
    assert (found.name, found.state, found.subscribed_events) == (
        "MyBatchWebhook",
        "disabled",
        ["batch.expired"],
    )


def test_a_deleted_webhook_is_gone(client: genai.Client) -> None:
    webhook_id = str(_create(client).id)
    client.webhooks.delete(id=webhook_id)
    assert not client.webhooks.list().webhooks
    with pytest.raises(Exception, match="not found"):
        client.webhooks.get(id=webhook_id)


def test_a_ping_arrives_whatever_the_webhook_subscribed_to(client: genai.Client, listener: Listener) -> None:
    webhook_id = str(_create(client, listener.url).id)
    client.webhooks.ping(id=webhook_id)
    wait_until(lambda: listener.received)
    assert b'"type": "ping"' in listener.received[0][1]


@pytest.mark.parametrize(
    ("behavior", "secrets"),
    [("revoke_previous_secrets_after_h24", 2), ("revoke_previous_secrets_immediately", 1)],
)
def test_a_rotation_keeps_the_old_secret_for_a_day_or_ends_it_at_once(
    client: genai.Client, behavior: str, secrets: int
) -> None:
    webhook = _create(client)
    rotated = client.webhooks.rotate_signing_secret(id=str(webhook.id), revocation_behavior=behavior)
    assert str(rotated.secret).startswith("whsec_")
    assert rotated.secret != webhook.new_signing_secret

    newest, *old = client.webhooks.get(id=str(webhook.id)).signing_secrets or []
    assert str(rotated.secret).startswith(str(newest.truncated_secret).rstrip("."))
    assert newest.expire_time is None
    assert len(old) == secrets - 1
    for each in old:
        assert each.expire_time
        assert abs(each.expire_time - datetime.now(UTC) - timedelta(hours=24)) < timedelta(minutes=1)


def test_the_guides_capitals_are_understood_as_a_behaviour(client: genai.Client, gemini: Gemini) -> None:
    path = f"/v1beta/webhooks/{_create(client).id}:rotateSigningSecret"
    body = {"revocation_behavior": "REVOKE_PREVIOUS_SECRETS_IMMEDIATELY"}
    assert gemini.http.post(path, json=body).json()["secret"].startswith("whsec_")
    assert gemini.http.post(path, json={"revocation_behavior": "someday"}).status_code == 400


@pytest.mark.parametrize(
    "body",
    [
        {"uri": "https://a.example"},
        {"subscribed_events": EVENTS},
        {"uri": "ftp://a", "subscribed_events": EVENTS},
    ],
)
def test_a_webhook_that_lacks_something_is_refused(gemini: Gemini, body: dict[str, object]) -> None:
    assert gemini.http.post("/v1beta/webhooks", json=body).json()["error"]["status"] == "INVALID_ARGUMENT"
