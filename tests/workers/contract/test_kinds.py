"""What the text of a setting may be: the same wherever the same is asked for."""

from typing import Any

import httpx
import pytest

from workers.contract import settings
from workers.contract.setting import kinds
from workers.contract.setting.kinds import Kind, is_https_or_loopback
from workers.contract.setting.reading import Setting, WrongSetting
from workers.contract.settings import SETTINGS


def alike(word: str) -> list[Setting[Any]]:
    return [setting for setting in SETTINGS if setting.name.endswith(word)]


@pytest.mark.parametrize("setting", alike("_BYTES"), ids=lambda setting: str(setting.name))
def test_every_size_may_have_a_unit(setting: Setting[int]) -> None:
    for text in ("16MiB", "16 mb", "16m", "16777216", " 16384k "):
        assert setting.read({setting.name: text}) == 16 << 20
    for text in ("0", "-1", "1.5", "16 XB", "many", "0k", "٣", "1" * 13):
        with pytest.raises(WrongSetting, match="must be a number of bytes, such as"):
            setting.read({setting.name: text})


@pytest.mark.parametrize("setting", [settings.WEBHOOK_DYNAMIC, settings.RECONCILE_REENABLE])
def test_every_switch_is_on_or_off(setting: Setting[bool]) -> None:
    assert [setting.read({setting.name: text}) for text in ("on", " ON ", "Off", "off")] == [
        True,
        True,
        False,
        False,
    ]
    for text in ("yes", "1", "true", "on off"):
        with pytest.raises(WrongSetting, match=rf"^{setting.name} must be on or off\.$"):
            setting.read({setting.name: text})


@pytest.mark.parametrize("setting", alike("_SECONDS"), ids=lambda setting: str(setting.name))
def test_every_number_is_whole_and_has_no_unit(setting: Setting[int]) -> None:
    assert setting.read({setting.name: " 60 "}) == 60
    for text in ("-1", "1.0", "15m", "1e3", "٣", "1" * 10):
        with pytest.raises(WrongSetting, match=rf"^{setting.name} must be a whole number"):
            setting.read({setting.name: text})


def test_bounds_belong_to_what_is_allowed() -> None:
    few = Setting(name="FEW", used_by=("serve",), kind=kinds.whole(least=1, most=3), about="How many")

    assert [few.read({"FEW": text}) for text in "123"] == [1, 2, 3]
    for text in "04":
        with pytest.raises(WrongSetting, match=r"^FEW must be a whole number from 1 to 3\.$"):
            few.read({"FEW": text})


@pytest.mark.parametrize("url", ["redis://u:p@host:1/2", "rediss://host", "unix:///run/redis.sock"])
def test_redis_may_be_reached_in_three_ways(url: str) -> None:
    assert kinds.redis_url().parse(url) == url


@pytest.mark.parametrize("setting", alike("_URL"), ids=lambda setting: str(setting.name))
def test_an_address_that_is_sent_to_is_https_or_on_this_machine(setting: Setting[str]) -> None:
    if setting.name in {"REDIS_URL", "STORAGE_URL"}:
        return
    # Nothing is put behind the operator's own addresses, and to others a slash makes another path.
    end = "/" if setting.name in {"HEARTBEAT_URL", "NOTIFY_URL"} else ""
    assert setting.read({setting.name: "https://example.com/x/"}) == f"https://example.com/x{end}"
    with pytest.raises(WrongSetting, match="plain http only on this machine"):
        setting.read({setting.name: "http://example.com"})


@pytest.mark.parametrize(
    ("url", "accepted"),
    [
        ("https://example.com/hook", True),
        ("http://127.0.0.1:8080", True),
        ("http://127.9.9.9", True),
        ("http://localhost:1/x", True),
        ("http://[::1]:8080/x", True),
        ("http://example.com/hook", False),
        ("http://127.0.0.1.example.com/", False),
        ("http://localhost@example.com", False),
        ("https://user:pass@example.com/", False),
        ("https://example.com:99999", False),
        ("https:///path", False),
        ("https://[", False),
        ("ftp://127.0.0.1/", False),
        ("example.com", False),
        ("https://exa mple.com/", False),
        ("https://example.com/\x7f", False),
        ("https://exämple.com/", False),
        ("https://exa$mple.com/", False),
        ("https://@example.com/", False),
        ("https://localhost\\@example.com/", False),
        ("https://example.com:port/", False),
        ("https://example.com:99999/", False),
        ("https://999.1.1.1/", False),
        ("https://[2001:db8::g]/", False),
        ("http://[2001:db8::1]/", False),
        ("https://[2001:db8::1]/", True),
        ("http://127.1.2.3/", True),
        ("HTTP://LOCALHOST/", True),
    ],
)
def test_only_https_or_this_machine_is_accepted(url: str, accepted: bool) -> None:
    assert is_https_or_loopback(url) is accepted
    if accepted:
        assert httpx.URL(url).host


def test_white_space_around_a_key_is_a_mistake_and_around_anything_else_is_not() -> None:
    exact: list[Kind[Any]] = [setting.kind for setting in SETTINGS if setting.kind.exact]

    assert len(exact) == 2
    with pytest.raises(WrongSetting):
        settings.GEMINI_API_KEY.read({"GEMINI_API_KEY": " key"})
    assert settings.STORAGE_URL.read({"STORAGE_URL": " s3://bucket "}) == "s3://bucket"
