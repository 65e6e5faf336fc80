"""Where Gemini may be, and a secret that keeps itself."""

import httpx
import pytest

from workers.gemini.access import Access, Secret, is_api_key, is_https_or_loopback

KEY = "AIza-secret"


def test_a_secret_has_no_value_to_be_read_by_accident() -> None:
    secret = Secret(KEY)

    assert not hasattr(secret, "__dict__")
    assert secret.reveal() == KEY


def test_neither_a_secret_nor_an_access_shows_the_key() -> None:
    secret = Secret(KEY)

    assert KEY not in f"{secret} {secret!r} {[secret]} {Access('https://example.com', secret)}"


def test_secrets_are_equal_by_their_value() -> None:
    assert Secret(KEY) == Secret(KEY)
    assert Secret(KEY) != Secret("other")
    assert Secret(KEY) != KEY
    assert len({Secret(KEY), Secret(KEY)}) == 1


def test_a_secret_is_masked_in_what_others_say_of_it() -> None:
    assert Secret(KEY).masked_in(f"{KEY} and {KEY}") == "*** and ***"
    assert Secret("").masked_in("text") == "text"


@pytest.mark.parametrize(
    ("text", "can_be"),
    [("AIza-09_x", True), ("", False), ("a b", False), ("a\n", False), ("schlüssel", False)],
)
def test_a_key_is_visible_ascii(text: str, can_be: bool) -> None:
    assert is_api_key(text) is can_be


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
        ("HTTP://LOCALHOST/", True),
        ("http://127.1.2.3/", True),
        ("https://[2001:db8::1]/", True),
        ("http://[2001:db8::1]/", False),
        ("https://[2001:db8::g]/", False),
        ("https://999.1.1.1/", False),
        ("https://example.com:99999/", False),
        ("https://example.com:port/", False),
        ("https://localhost\\@example.com/", False),
        ("https://@example.com/", False),
        ("https://exa$mple.com/", False),
        ("https://exämple.com/", False),
        ("https://example.com/\x7f", False),
    ],
)
def test_only_https_or_this_machine_is_accepted(url: str, accepted: bool) -> None:
    assert is_https_or_loopback(url) is accepted
    if accepted:
        assert httpx.URL(url).host
