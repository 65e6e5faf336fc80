"""Dynamic webhooks, from a JWKS server to the job in Redis."""

import time
from typing import Any

import pytest
import redis
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.receiver import signing
from tests.receiver.conftest import Answer, Receiver, StartReceiver
from tests.receiver.jwks_server import JwksServer
from tests.receiver.signing import AUDIENCE
from workers.contract import Queues, Trigger

ED25519 = signing.ed25519_key()
RSA = signing.rsa_key()


@pytest.fixture
def dynamic(start_receiver: StartReceiver, redis_url: str, jwks_server: JwksServer) -> Receiver:
    jwks_server.document = signing.jwks(signing.ed25519_jwk(ED25519), signing.rsa_jwk(RSA))
    return start_receiver(
        redis_url,
        WEBHOOK_SIGNING_SECRET="",
        WEBHOOK_DYNAMIC="on",
        WEBHOOK_JWKS_URL=jwks_server.url,
        WEBHOOK_AUDIENCE=AUDIENCE,
    )


def deliver_v1a(receiver: Receiver, body: bytes, key: Ed25519PrivateKey = ED25519) -> Answer:
    now = time.time()
    return receiver.post(body, signing.headers(signing.v1a(body, key=key, at=now), at=now))


def deliver_token(receiver: Receiver, body: bytes, **changes: Any) -> Answer:
    return receiver.post(body, {"webhook-signature": signing.token(body, RSA, at=time.time(), **changes)})


def test_an_ed25519_delivery_is_accepted_with_its_metadata(
    dynamic: Receiver, redis_client: redis.Redis, jwks_server: JwksServer
) -> None:
    assert jwks_server.asked == 0
    assert deliver_v1a(dynamic, signing.event(user_metadata={"job": "nightly"})).word == "accepted"
    told = Queues(redis_client).announced("abc")
    assert told.triggers == {Trigger.DYNAMIC}
    assert told.user_metadata == '{"job": "nightly"}'
    assert deliver_v1a(dynamic, signing.event()).word == "duplicate"
    assert jwks_server.asked == 1


def test_a_token_delivery_is_accepted_with_its_metadata(dynamic: Receiver, redis_client: redis.Redis) -> None:
    assert deliver_token(dynamic, signing.event(user_metadata=["x"])).word == "accepted"
    assert Queues(redis_client).announced("abc").user_metadata is not None
    assert deliver_token(dynamic, signing.event("other"), aud="another").status == 401


def test_forgeries_are_401_and_ask_google_once(dynamic: Receiver, jwks_server: JwksServer) -> None:
    stranger = signing.ed25519_key()
    assert {deliver_v1a(dynamic, signing.event(), stranger).status for _ in range(30)} == {401}
    assert jwks_server.asked == 1


def test_without_keys_and_without_an_answer_it_is_503(dynamic: Receiver, jwks_server: JwksServer) -> None:
    jwks_server.stop()
    started = time.monotonic()
    answer = deliver_v1a(dynamic, signing.event())
    assert (answer.status, "retry-after" in answer.headers) == (503, True)
    assert time.monotonic() - started < 2.2


def test_metadata_over_its_limit_is_dropped_and_the_event_accepted(
    dynamic: Receiver, redis_client: redis.Redis
) -> None:
    assert deliver_v1a(dynamic, signing.event(user_metadata="x" * 17_000)).word == "accepted"
    assert Queues(redis_client).announced("abc").user_metadata is None
    dynamic.process.wait_for_output("event=user_metadata_dropped batch=abc")


def test_a_static_events_metadata_is_nobodys(receiver: Receiver, redis_client: redis.Redis) -> None:
    assert receiver.deliver(user_metadata={"job": "x"}).word == "accepted"
    assert Queues(redis_client).announced("abc").user_metadata is None


def test_off_is_the_default_and_fetches_nothing(
    start_receiver: StartReceiver, redis_url: str, jwks_server: JwksServer
) -> None:
    receiver = start_receiver(redis_url, WEBHOOK_JWKS_URL=jwks_server.url, WEBHOOK_AUDIENCE=AUDIENCE)
    assert deliver_v1a(receiver, signing.event()).status == 401
    assert deliver_token(receiver, signing.event()).status == 401
    assert jwks_server.asked == 0
