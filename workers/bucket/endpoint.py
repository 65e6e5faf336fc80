"""Values of settings, checked before obstore sees them: it panics on an address that is none."""

import re
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from workers.errors import SettingsError

_HOST = re.compile(r"[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]")
_PATH = re.compile(r"[A-Za-z0-9/._~!$&'()*+,;=:@%-]*")


def plain(name: str, value: str) -> str:
    """`value` of the variable `name`, if it is one word.

    Raises:
        SettingsError: it holds white space or control characters.
    """
    if not value.isprintable() or any(map(str.isspace, value)):
        raise SettingsError(f"{name} holds white space or a line end: set it without.")
    return value


def endpoint(name: str, value: str) -> str:
    """The address in the variable `name` in the form that obstore understands, without a slash at its end.

    Raises:
        SettingsError: it is no address of a server.
    """
    plain(name, value)
    scheme, separator, _ = value.partition("://")
    if not separator or scheme.lower() not in {"http", "https"}:
        raise SettingsError(
            f"{name} must begin with https:// or http://, as in https://storage.example.com:9000."
        )
    parts = _split(name, value)
    if parts.username is not None or parts.password is not None:
        raise SettingsError(f"{name} holds credentials: they have variables of their own.")
    if parts.query or parts.fragment:
        raise SettingsError(f"{name} must end before any query.")
    host = parts.netloc.removesuffix(f":{parts.port}") if parts.port else parts.netloc.removesuffix(":")
    if not _HOST.fullmatch(host) or not _PATH.fullmatch(parts.path):
        raise SettingsError(f"{name} names no host that can be: check it for typing errors.")
    return f"{scheme.lower()}://{parts.netloc}{parts.path.rstrip('/')}"


def _split(name: str, value: str) -> SplitResult:
    try:
        parts = urlsplit(value)
    except ValueError:
        raise SettingsError(f"{name} names no host that can be: check it for typing errors.") from None
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise SettingsError(f"{name} has a port that can't be: it must be from 1 to 65535.")
    if not parts.hostname:
        raise SettingsError(f"{name} names no host after {parts.scheme}://.")
    return parts


def check_inside(name: str, address: str, bucket: str, kind: str) -> None:
    """Refuse an address that ends in the bucket, which would then stand in every request twice.

    Raises:
        SettingsError: it does.
    """
    if urlsplit(address).path.rpartition("/")[2] == bucket:
        raise SettingsError(
            f"{name} names the {kind} {bucket} too: end it before that, as STORAGE_URL names it."
        )


def is_loopback(address: str) -> bool:
    return urlsplit(address).hostname in {"localhost", "127.0.0.1", "::1"}


def readable(name: str, value: str) -> str:
    """The path in the variable `name`, if there is a file that can be read.

    Raises:
        SettingsError: there is none.
    """
    content(name, value)
    return value


def content(name: str, value: str) -> bytes:
    """What is in the file that the variable `name` names.

    Raises:
        SettingsError: it can't be read.
    """
    try:
        return Path(value).read_bytes()
    except (OSError, ValueError):
        raise SettingsError(f"{name} names {value}, which is no file that can be read.") from None
