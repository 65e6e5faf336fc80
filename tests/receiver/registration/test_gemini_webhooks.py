"""The client of Gemini's webhooks, against a real server that says what the test tells it to."""

import json
import logging
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec
import pytest

from receiver.registration.gemini_access import Access, is_https_or_loopback
from receiver.registration.gemini_webhooks import GeminiError, GeminiWebhooks, Webhook
from receiver.registration.secret_file import Secret

KEY = "AIzaTestKeyTestKeyTestKey"
SECRET = "whsec_c2VjcmV0c2VjcmV0c2VjcmV0"
HOOK = {"id": "hook1", "uri": "https://example.com/hook", "subscribed_events": ["batch.succeeded"]}


@dataclass
class Scripted:
    """Answers requests in order with what is in `answers` (status, body, headers), and remembers them."""

    url: str = ""
    answers: list[tuple[int, Any, dict[str, str]]] = field(default_factory=list)
    requests: list[tuple[str, str, str | None, Any]] = field(default_factory=list)

    def will_answer(self, status: int, body: Any = None, **headers: str) -> None:
        self.answers.append((status, body, headers))


@pytest.fixture
def scripted() -> Iterator[Scripted]:
    script = Scripted()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            request = (self.command, self.path, self.headers["x-goog-api-key"], json.loads(body or b"null"))
            script.requests.append(request)
            status, content, headers = script.answers.pop(0)
            sent = content if isinstance(content, bytes) else json.dumps(content or {}).encode()
            self.send_response(status)
            for name, value in {**headers, "content-length": str(len(sent))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(sent)

        do_GET = do_POST = do_PATCH = do_DELETE = answer  # noqa: N815 (http.server's names)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        script.url = f"http://127.0.0.1:{server.server_port}"
        yield script
        server.shutdown()
        thread.join()


@pytest.fixture
def gemini(scripted: Scripted) -> Iterator[GeminiWebhooks]:
    with GeminiWebhooks(Access(scripted.url, KEY)) as client:
        yield client


def test_creating_sends_what_the_official_sdk_sends(scripted: Scripted, gemini: GeminiWebhooks) -> None:
    scripted.will_answer(200, {**HOOK, "new_signing_secret": SECRET, "state": "enabled"})

    webhook, secret = gemini.create("https://example.com/hook", ["batch.succeeded"], "mine")

    assert (webhook.id, secret) == ("hook1", Secret(SECRET))
    body = {"uri": "https://example.com/hook", "subscribed_events": ["batch.succeeded"], "name": "mine"}
    assert scripted.requests == [("POST", "/v1beta/webhooks", KEY, body)]


def test_a_created_webhook_does_not_carry_its_secret_along(
    scripted: Scripted, gemini: GeminiWebhooks
) -> None:
    scripted.will_answer(200, {**HOOK, "new_signing_secret": SECRET})
    assert SECRET not in repr(gemini.create("https://example.com/hook", ["batch.succeeded"], None))


def test_listing_follows_every_page(scripted: Scripted, gemini: GeminiWebhooks) -> None:
    scripted.will_answer(200, {"webhooks": [HOOK], "next_page_token": "two&more"})
    scripted.will_answer(200, {"webhooks": [{**HOOK, "id": "hook2"}]})

    assert [webhook.id for webhook in gemini.list()] == ["hook1", "hook2"]
    assert [path for _, path, _, _ in scripted.requests] == [
        "/v1beta/webhooks?page_size=50",
        "/v1beta/webhooks?page_size=50&page_token=two%26more",
    ]


def test_a_project_without_webhooks_is_an_empty_list(scripted: Scripted, gemini: GeminiWebhooks) -> None:
    scripted.will_answer(200, {})
    assert list(gemini.list()) == []


def test_a_list_that_repeats_a_page_ends_in_an_error(scripted: Scripted, gemini: GeminiWebhooks) -> None:
    for _ in range(2):
        scripted.will_answer(200, {"webhooks": [HOOK], "next_page_token": "again"})
    with pytest.raises(GeminiError, match="does not end"):
        list(gemini.list())


def test_camel_case_unknown_fields_and_nulls_are_understood(
    scripted: Scripted, gemini: GeminiWebhooks
) -> None:
    scripted.will_answer(
        200,
        {
            "id": "hook1",
            "uri": "https://example.com/hook",
            "name": None,
            "subscribedEvents": ["batch.failed"],
            "state": "ENABLED",
            "signingSecrets": [
                {"truncatedSecret": "…JldA", "expireTime": "2026-07-01T20:29:19.123456789Z", "new": {"a": 1}}
            ],
        },
    )

    webhook = gemini.get("hook1")

    assert webhook.enabled
    assert webhook.subscribed_events == ["batch.failed"]
    assert webhook.signing_secrets[0].expiry.replace(microsecond=0) == datetime(
        2026, 7, 1, 20, 29, 19, tzinfo=UTC
    )


def test_an_update_names_the_fields_that_it_changes(scripted: Scripted, gemini: GeminiWebhooks) -> None:
    scripted.will_answer(200, HOOK)

    gemini.update("webhooks/hook1", {"state": "enabled", "name": "n"})

    path = "/v1beta/webhooks/hook1?update_mask=state%2Cname"
    assert scripted.requests == [("PATCH", path, KEY, {"state": "enabled", "name": "n"})]


def test_ping_rotate_and_delete_use_the_paths_of_the_reference(
    scripted: Scripted, gemini: GeminiWebhooks
) -> None:
    for answer in ({}, {"secret": SECRET}, {"secret": SECRET}, b""):
        scripted.will_answer(200, answer)

    gemini.ping("hook1")
    assert gemini.rotate("hook1", revoke_now=False) == Secret(SECRET)
    assert gemini.rotate("hook1", revoke_now=True) == Secret(SECRET)
    gemini.delete("hook1")

    rotate = "/v1beta/webhooks/hook1:rotateSigningSecret"
    assert [(method, path, body) for method, path, _, body in scripted.requests] == [
        ("POST", "/v1beta/webhooks/hook1:ping", {}),
        ("POST", rotate, {"revocation_behavior": "revoke_previous_secrets_after_h24"}),
        ("POST", rotate, {"revocation_behavior": "revoke_previous_secrets_immediately"}),
        ("DELETE", "/v1beta/webhooks/hook1", None),
    ]


def test_an_id_can_not_leave_its_path(scripted: Scripted, gemini: GeminiWebhooks) -> None:
    scripted.will_answer(200, HOOK)
    gemini.get("../files/x?y")
    assert scripted.requests[0][1] == "/v1beta/webhooks/..%2Ffiles%2Fx%3Fy"


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (400, "refused the call"),
        (401, "refused the API key"),
        (403, "refused the API key"),
        (404, "knows no such webhook"),
        (409, "conflict"),
        (429, "rate limit"),
        (500, "in trouble"),
        (503, "in trouble"),
    ],
)
def test_an_error_is_one_sentence_without_the_key(
    status: int, sentence: str, scripted: Scripted, gemini: GeminiWebhooks
) -> None:
    message = f"Key {KEY} is\nwrong \x1b[31m."
    scripted.will_answer(status, {"error": {"code": status, "message": message, "status": "X"}})

    with pytest.raises(GeminiError, match=sentence) as caught:
        gemini.get("hook1")

    said = str(caught.value)
    assert caught.value.status == status
    assert "Key *** is wrong [31m" in said
    assert KEY not in said
    assert said.isprintable()


@pytest.mark.parametrize("body", [b"<html>", b'{"error": "no object"}', b"[]", b"\xff", b"[" * 100_000])
def test_an_error_of_any_other_shape_is_still_a_sentence(
    body: bytes, scripted: Scripted, gemini: GeminiWebhooks
) -> None:
    scripted.will_answer(502, body)
    with pytest.raises(GeminiError, match="in trouble \\(502\\): try again later\\."):
        gemini.get("hook1")


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b'{"id": 7}', b"\xff", b"[" * 100_000, b'{"id": "x", "uri": "\xff"}']
)
def test_an_answer_that_is_not_understood_is_an_error(
    body: bytes, scripted: Scripted, gemini: GeminiWebhooks
) -> None:
    scripted.will_answer(200, body)
    with pytest.raises(GeminiError, match="not understood"):
        gemini.get("hook1")


def test_a_redirect_is_not_followed(scripted: Scripted, gemini: GeminiWebhooks) -> None:
    scripted.will_answer(307, location=f"{scripted.url}/elsewhere")
    with pytest.raises(GeminiError, match="redirects \\(307\\)"):
        gemini.get("hook1")
    assert len(scripted.requests) == 1


def test_a_webhook_created_without_a_secret_is_an_error(scripted: Scripted, gemini: GeminiWebhooks) -> None:
    scripted.will_answer(200, HOOK)
    with pytest.raises(GeminiError, match="created hook1 but sent no secret"):
        gemini.create("https://example.com/hook", ["batch.succeeded"], None)


def test_a_rotation_without_a_secret_is_an_error(scripted: Scripted, gemini: GeminiWebhooks) -> None:
    scripted.will_answer(200, {})
    with pytest.raises(GeminiError, match="sent none"):
        gemini.rotate("hook1", revoke_now=False)


def test_a_server_that_is_not_there_is_a_sentence() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        with GeminiWebhooks(Access(url, KEY)) as gemini, pytest.raises(GeminiError, match="not be reached"):
            gemini.get("hook1")


def test_no_log_shows_the_key_or_a_secret(
    scripted: Scripted, gemini: GeminiWebhooks, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    scripted.will_answer(200, {**HOOK, "new_signing_secret": SECRET})
    gemini.create("https://example.com/hook", ["batch.succeeded"], None)
    assert caplog.text
    assert KEY not in caplog.text
    assert SECRET not in caplog.text


def secrets(*shown: dict[str, Any]) -> Webhook:
    return msgspec.convert({**HOOK, "signing_secrets": list(shown)}, Webhook)


def test_during_a_rotation_only_the_newest_secret_counts() -> None:
    rotating = secrets(
        {"truncated_secret": "...bGQx", "expire_time": "2099-01-01T00:00:00Z"},
        {"truncated_secret": "...ZXcx"},
    )
    assert rotating.signs_with([Secret("whsec_bmV3ZXcx")])
    assert not rotating.signs_with([Secret("whsec_b2xkbGQx")])
    assert not secrets().signs_with([Secret("whsec_b2xkbGQx")])


def test_access_does_not_show_its_key() -> None:
    assert "one" not in repr(Access("https://gemini.example", "one"))


@pytest.mark.parametrize(
    ("url", "accepted"),
    [
        ("https://example.com/hook", True),
        ("http://127.0.0.1:8080", True),
        ("http://localhost:1/x", True),
        ("http://[::1]:8080/x", True),
        ("http://example.com/hook", False),
        ("http://127.0.0.1.example.com/", False),
        ("https://user:pass@example.com/", False),
        ("https:///path", False),
        ("ftp://127.0.0.1/", False),
        ("example.com", False),
        ("https://exa mple.com/", False),
    ],
)
def test_only_https_or_this_machine_is_accepted(url: str, accepted: bool) -> None:
    assert is_https_or_loopback(url) is accepted
