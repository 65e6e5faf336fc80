"""Where Gemini may be, and a secret that keeps itself."""

from workers.gemini.access import Access, Secret

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
