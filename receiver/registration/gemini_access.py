"""Where Gemini is and with which key it is asked."""

import re
from dataclasses import dataclass
from ipaddress import ip_address

import httpx

_VISIBLE_ASCII = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True, slots=True)
class Access:
    """Where Gemini is and with which key."""

    base_url: str
    api_key: str

    def __repr__(self) -> str:
        return f"Access(base_url={self.base_url!r}, api_key='***')"


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
