"""What the registration reads of its environment, and the one sentence that names what is wrong."""

import pytest

from receiver.errors import SettingsError
from receiver.registration.settings import read_access
from workers.gemini.access import DEFAULT_BASE_URL, Access, Secret


def test_access_prefers_the_design_name_of_the_key() -> None:
    access = read_access({"GEMINI_API_KEY": "one", "GOOGLE_API_KEY": "two"})
    assert access == Access(DEFAULT_BASE_URL, Secret("one"))
    assert read_access({"GOOGLE_API_KEY": "two"}).api_key == Secret("two")
    assert "one" not in repr(access)


@pytest.mark.parametrize(
    ("environ", "sentence"),
    [
        ({}, "GEMINI_API_KEY is not set"),
        ({"GEMINI_API_KEY": "with space"}, "GEMINI_API_KEY holds characters"),
        ({"GEMINI_API_KEY": "schlüssel"}, "GEMINI_API_KEY holds characters"),
        ({"GEMINI_API_KEY": "k", "GOOGLE_GEMINI_BASE_URL": "http://example.com"}, "GOOGLE_GEMINI_BASE_URL"),
        ({"GEMINI_API_KEY": "k", "GOOGLE_GEMINI_BASE_URL": "ftp://[::1"}, "GOOGLE_GEMINI_BASE_URL"),
    ],
)
def test_wrong_settings_are_named_without_their_value(environ: dict[str, str], sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence) as caught:
        read_access(environ)
    assert not any(len(value) > 1 and value in str(caught.value) for value in environ.values())
