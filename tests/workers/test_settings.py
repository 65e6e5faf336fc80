"""The workers' settings: what is accepted, and the one sentence that names what is not."""

from collections.abc import Mapping
from dataclasses import FrozenInstanceError

import pytest

from workers.errors import Permanent, SettingsError
from workers.settings import Settings, redis_url, storage_url

GOOD = {"GEMINI_API_KEY": "AIza-secret", "STORAGE_URL": "file:///srv/results"}


def load(**changes: str) -> Settings:
    return Settings.load({**GOOD, **changes})


def test_a_key_and_a_bucket_are_all_that_must_be_set() -> None:
    settings = load()

    assert settings.api_key.reveal() == "AIza-secret"
    assert settings.storage_url == "file:///srv/results"
    assert settings.redis_url == "redis://127.0.0.1:6379/0"
    assert settings.base_url == "https://generativelanguage.googleapis.com"
    assert settings.outputs == {"objects"}
    assert settings.display_name == "*"
    assert settings.part_bytes == 16 * 1024 * 1024
    assert settings.fanout_concurrency is None
    assert settings.reconcile_interval_seconds == 900


def test_the_key_may_stand_under_either_name_and_googles_counts_as_in_its_sdk() -> None:
    google = {"GOOGLE_API_KEY": "other", "STORAGE_URL": "file:///x"}

    assert Settings.load(google).api_key.reveal() == "other"
    assert Settings.load({**GOOD, **google}).api_key.reveal() == "other"
    assert Settings.load({**GOOD, **google, "GOOGLE_API_KEY": ""}).api_key.reveal() == "AIza-secret"
    assert Settings.load({**google, "GEMINI_API_KEY": ""}).api_key.reveal() == "other"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("GEMINI_API_KEY", value) for value in ("", " AIza", "AIza\n", "AI\0za", "clé", "a\r\nx-evil: 1")],
        ("STORAGE_URL", ""),
        *[("REDIS_URL", value) for value in ("http://127.0.0.1", "127.0.0.1:6379", "redis", "redis://[")],
        *[
            ("GOOGLE_GEMINI_BASE_URL", value)
            for value in (
                *("http://example.com", "ftp://127.0.0.1", "https://", "example.com", "https://[", "http://"),
                *("http://127.0.0.1.example.com", "http://127.0.0.1:port", "https://example.com:99999"),
                "http://localhost@example.com",
            )
        ],
        *[("OUTPUTS", value) for value in (",", "objects;parquet", "csv", "objects,csv", "Objects")],
        *[("PART_BYTES", value) for value in ("0", "-1", "1.5", "16 XB", "many", "0k", "٣", "1" * 13)],
        *[("FANOUT_CONCURRENCY", value) for value in ("0", "-1", "two", "1.0", "1" * 10)],
        *[("RECONCILE_INTERVAL_SECONDS", value) for value in ("-1", "often", "15m")],
    ],
)
def test_a_wrong_setting_is_refused_in_one_sentence_that_names_it(name: str, value: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(**{name: value})

    sentence = str(caught.value)
    assert name in sentence
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert isinstance(caught.value, Permanent)


@pytest.mark.parametrize("missing", ["GEMINI_API_KEY", "STORAGE_URL"])
def test_a_missing_setting_is_named(missing: str) -> None:
    with pytest.raises(SettingsError, match=missing):
        Settings.load({name: value for name, value in GOOD.items() if name != missing})


@pytest.mark.parametrize(
    "url",
    [
        "https://generativelanguage.example",
        "https://proxy.example/gemini",
        "http://127.0.0.1:8123",
        "http://localhost",
        "http://[::1]:8123",
    ],
)
def test_gemini_may_be_anywhere_over_https_and_on_loopback_without(url: str) -> None:
    assert load(GOOGLE_GEMINI_BASE_URL=url).base_url == url
    assert load(GOOGLE_GEMINI_BASE_URL=url + "/").base_url == url


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1", 1),
        ("16777216", 16 << 20),
        ("16MiB", 16 << 20),
        ("16 mb", 16 << 20),
        ("16m", 16 << 20),
        ("64k", 64 << 10),
        ("1GiB", 1 << 30),
        (" 7 ", 7),
        ("7b", 7),
    ],
)
def test_sizes_may_have_a_unit(text: str, size: int) -> None:
    assert load(PART_BYTES=text).part_bytes == size


@pytest.mark.parametrize(
    ("text", "outputs"),
    [
        ("", {"objects"}),
        ("parquet", {"parquet"}),
        ("objects,parquet", {"objects", "parquet"}),
        (" parquet , objects ,", {"objects", "parquet"}),
    ],
)
def test_outputs_are_one_or_both(text: str, outputs: set[str]) -> None:
    assert load(OUTPUTS=text).outputs == outputs


def test_reconciling_can_be_turned_off_and_concurrency_be_set() -> None:
    assert load(RECONCILE_INTERVAL_SECONDS="0").reconcile_interval_seconds == 0
    assert load(FANOUT_CONCURRENCY="8").fanout_concurrency == 8


def test_no_secret_is_in_what_settings_show_of_themselves() -> None:
    settings = load(AWS_SECRET_ACCESS_KEY="hidden-too", REDIS_URL="redis://:hunter2@127.0.0.1/0")

    for shown in (repr(settings), str(settings), repr(settings.api_key), f"{settings.api_key}"):
        assert "AIza-secret" not in shown
        assert "hidden-too" not in shown
        assert "hunter2" not in shown


def test_a_refused_key_is_not_quoted() -> None:
    with pytest.raises(SettingsError) as caught:
        load(GEMINI_API_KEY="AIza-secret\n")

    assert "AIza" not in str(caught.value)


def test_settings_do_not_change_after_they_were_loaded() -> None:
    environment = dict(GOOD)
    settings = Settings.load(environment)
    environment["STORAGE_URL"] = "file:///elsewhere"

    assert settings.environment["STORAGE_URL"] == "file:///srv/results"
    with pytest.raises(FrozenInstanceError):
        settings.storage_url = "file:///elsewhere"  # type: ignore[misc]


@pytest.mark.parametrize("url", ["redis://u:p@host:1/2", "rediss://host", "unix:///run/redis.sock"])
def test_redis_may_be_reached_in_three_ways(url: str) -> None:
    assert redis_url({"REDIS_URL": url}) == url


def test_what_needs_only_redis_and_the_bucket_reads_them_without_a_key() -> None:
    environment: Mapping[str, str] = {"STORAGE_URL": "s3://bucket"}

    assert storage_url(environment) == "s3://bucket"
    assert redis_url(environment) == "redis://127.0.0.1:6379/0"
