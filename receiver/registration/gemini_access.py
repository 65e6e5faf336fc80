"""Where Gemini is and with which key it is asked."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Self

import httpx

from receiver.errors import SettingsError

DEFAULT_BASE_URL = "https://generativelanguage.googleapis.com"

_VISIBLE_ASCII = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True, slots=True)
class Access:
    """Where Gemini is and with which key."""

    base_url: str
    api_key: str

    def __repr__(self) -> str:
        return f"Access(base_url={self.base_url!r}, api_key='***')"

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Self:
        """Read `GEMINI_API_KEY` (or `GOOGLE_API_KEY`) and `GOOGLE_GEMINI_BASE_URL`.

        Raises:
            SettingsError: the key is missing, or one of them is wrong.
        """
        api_key = (environ.get("GEMINI_API_KEY") or environ.get("GOOGLE_API_KEY") or "").strip()
        if not api_key:
            raise SettingsError("GEMINI_API_KEY is not set: webhooks belong to the project of an API key.")
        if not _VISIBLE_ASCII.fullmatch(api_key):
            raise SettingsError("GEMINI_API_KEY holds characters that no API key has.")
        base_url = environ.get("GOOGLE_GEMINI_BASE_URL", "").strip().rstrip("/") or DEFAULT_BASE_URL
        if not is_https_or_loopback(base_url):
            raise SettingsError(
                "GOOGLE_GEMINI_BASE_URL must be an https address (plain http is accepted on loopback only)."
            )
        return cls(base_url, api_key)


def is_https_or_loopback(url: str) -> bool:
    """Whether what is sent to `url` can't be read on the way: https, or http that stays on this machine."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        return False
    if not parsed.host or parsed.userinfo or not _VISIBLE_ASCII.fullmatch(url):
        return False
    return parsed.scheme == "https" or (parsed.scheme == "http" and _is_loopback(parsed.host))


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
