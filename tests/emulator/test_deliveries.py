"""Deliveries, verified with the official packages for each kind of signature."""

import base64
import json
from collections.abc import Mapping

import jwt
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from standardwebhooks import Webhook

from tests.emulator.listener import Listener
from tests.support.gemini import Gemini
from tests.support.waiting import wait_until

LINES = b'{"key": "a", "response": {}}\n'


def _ed25519_verifies(gemini: Gemini, headers: Mapping[str, str], body: bytes) -> list[bool]:
    """Whether the signature is that of each OKP key of the JWKS."""
    content = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    signature = base64.b64decode(headers["webhook-signature"].removeprefix("v1a,"))
    verdicts = []
    for key in gemini.http.get("/.well-known/jwks.json").json()["keys"]:
        if key["kty"] != "OKP":
            continue
        assert "kid" not in key
        try:
            Ed25519PublicKey.from_public_bytes(base64.urlsafe_b64decode(key["x"] + "==")).verify(
                signature, content
            )
        except InvalidSignature:
            verdicts.append(False)
        else:
            verdicts.append(True)
    return verdicts


def test_a_subscribed_webhook_gets_a_thin_event_that_its_secret_verifies(
    gemini: Gemini, listener: Listener
) -> None:
    secret = gemini.create_webhook(listener.url)["new_signing_secret"]
    batch = gemini.put_batch(LINES)
    gemini.wait_for_deliveries(gemini.announce(batch))
    headers, body = listener.received[0]
    event = Webhook(secret).verify(body, dict(headers))
    assert event == json.loads(body)
    assert event["type"] == "batch.succeeded"
    assert event["data"] == {"id": batch, "output_file_uri": f"files/batch-{batch}"}
    assert "user_metadata" not in event


def test_during_a_rotation_both_secrets_verify(gemini: Gemini, listener: Listener) -> None:
    webhook = gemini.create_webhook(listener.url)
    rotated = gemini.http.post(f"/v1beta/webhooks/{webhook['id']}:rotateSigningSecret").json()["secret"]
    gemini.wait_for_deliveries(gemini.announce("anything"))
    headers, body = listener.received[0]
    assert len(headers["webhook-signature"].split(" ")) == 2
    for secret in (rotated, webhook["new_signing_secret"]):
        Webhook(secret).verify(body, dict(headers))


def test_a_webhook_that_is_disabled_or_wants_other_events_hears_nothing(
    gemini: Gemini, listener: Listener
) -> None:
    gemini.create_webhook(listener.url, "batch.failed")
    disabled = gemini.create_webhook(listener.url)["id"]
    gemini.http.patch(f"/v1beta/webhooks/{disabled}", json={"state": "disabled"})
    assert gemini.announce("anything") == []
    assert len(gemini.announce("anything", type="batch.failed")) == 1


def test_a_dynamic_delivery_is_signed_by_one_of_several_keys_without_kid(
    gemini: Gemini, listener: Listener
) -> None:
    gemini.wait_for_deliveries(gemini.announce("b", kind="v1a", uris=[listener.url], user_metadata={"a": 1}))
    headers, body = listener.received[0]
    assert json.loads(body)["user_metadata"] == {"a": 1}
    assert _ed25519_verifies(gemini, headers, body) == [False, True, False]


def test_rotated_keys_no_longer_verify_what_they_signed(gemini: Gemini, listener: Listener) -> None:
    gemini.wait_for_deliveries(gemini.announce("b", kind="v1a", uris=[listener.url]))
    gemini.rotate_keys()
    assert not any(_ed25519_verifies(gemini, *listener.received[0]))


@pytest.mark.parametrize("audience", [None, "my-project"])
def test_a_dynamic_delivery_can_be_a_jwt_whose_claims_are_the_event(
    gemini: Gemini, listener: Listener, audience: str | None
) -> None:
    gemini.set(audience=audience)
    gemini.wait_for_deliveries(gemini.announce("b", kind="jwt", uris=[listener.url]))
    headers, body = listener.received[0]
    token = headers["webhook-signature"]
    kid = jwt.get_unverified_header(token)["kid"]
    keys = {each.get("kid"): each for each in gemini.http.get("/.well-known/jwks.json").json()["keys"]}
    claims = jwt.decode(
        token, jwt.PyJWK(keys[kid]).key, algorithms=["RS256"], audience=audience or listener.url
    )
    assert claims.items() >= json.loads(body).items()
    assert claims["exp"] > claims["iat"]


def test_a_delivery_is_repeated_with_the_same_id_and_body_until_it_is_taken(
    gemini: Gemini, listener: Listener
) -> None:
    gemini.set(retry_first_seconds=0.01)
    secret = gemini.create_webhook(listener.url)["new_signing_secret"]
    listener.answers += [503, 401, 302]
    (delivery,) = gemini.wait_for_deliveries(gemini.announce("b"))
    assert [attempt["status"] for attempt in delivery["attempts"]] == [503, 401, 302, 200]
    assert delivery["state"] == "delivered"
    assert {headers["webhook-id"] for headers, _ in listener.received} == {delivery["id"]}
    assert len({body for _, body in listener.received}) == 1
    for headers, body in listener.received:
        Webhook(secret).verify(body, dict(headers))


def test_a_delivery_that_nobody_takes_is_given_up_and_its_webhook_disabled(
    gemini: Gemini, listener: Listener
) -> None:
    gemini.set(retry_first_seconds=0.01, give_up_seconds=1)
    webhook = gemini.create_webhook(listener.url)["id"]
    listener.answers += [500] * 100
    (delivery,) = gemini.wait_for_deliveries(gemini.announce("b"))
    assert delivery["state"] == "given_up"
    assert len(delivery["attempts"]) > 1
    state = gemini.http.get(f"/v1beta/webhooks/{webhook}").json()["state"]
    assert state == "disabled_due_to_failed_deliveries"


def test_a_url_that_nobody_listens_on_is_a_failed_attempt(gemini: Gemini) -> None:
    gemini.set(retry_first_seconds=0.01, give_up_seconds=0)
    (delivery,) = gemini.wait_for_deliveries(gemini.announce("b", kind="v1a", uris=["http://127.0.0.1:9/"]))
    assert delivery["attempts"][0]["status"] is None
    assert "ConnectError" in delivery["attempts"][0]["error"]


@pytest.mark.parametrize("url", ["https://example.com/hook", "http://10.0.0.1/", "http://[2001:db8::1]/"])
def test_nothing_is_sent_beyond_this_machine(gemini: Gemini, url: str) -> None:
    (delivery,) = gemini.wait_for_deliveries(gemini.announce("b", kind="v1a", uris=[url]))
    assert (delivery["state"], delivery["attempts"]) == ("refused", [])
    gemini.process.wait_for_output("is told nothing, as deliveries go to this machine only")


def test_the_same_batch_can_be_announced_many_times_and_each_delivery_doubled(
    gemini: Gemini, listener: Listener
) -> None:
    gemini.create_webhook(listener.url)
    gemini.fault("duplicate", value=2)
    ids = gemini.announce("b", times=5)
    wait_until(lambda: len(listener.received) == 7)
    assert {headers["webhook-id"] for headers, _ in listener.received} == set(ids)
    assert len(ids) == 5


def test_a_slow_delivery_comes_late(gemini: Gemini, listener: Listener) -> None:
    gemini.fault("delay", f"DELIVER {listener.url}", value=0.3)
    late, prompt = (gemini.announce("b", kind="v1a", uris=[listener.url])[0] for _ in range(2))
    gemini.wait_for_deliveries([late, prompt])
    assert [headers["webhook-id"] for headers, _ in listener.received] == [prompt, late]


def test_an_event_can_be_anything(gemini: Gemini, listener: Listener) -> None:
    event = {"type": "batch.succeeded", "data": {"id": ["no id"]}}
    gemini.create_webhook(listener.url)
    gemini.wait_for_deliveries(gemini.announce("b", event=event))
    assert json.loads(listener.received[0][1]) == event


def test_a_batch_that_changes_its_state_can_say_so(gemini: Gemini, listener: Listener) -> None:
    gemini.create_webhook(listener.url)
    batch = gemini.put_batch(b"", state="RUNNING")
    gemini.change(batch, "FAILED", error={"code": 13, "message": "Internal"}, announce=True)
    wait_until(lambda: listener.received)
    event = json.loads(listener.received[0][1])
    assert event["type"] == "batch.failed"
    assert event["data"] == {"id": batch, "error_code": "13", "error_message": "Internal"}
