"""Values of settings, checked before obstore sees them: it panics on an address that is none."""

import base64
import binascii
import re
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import SplitResult, parse_qs, urlsplit

from workers.errors import SettingsError

_HOST = re.compile(r"[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]")
_PATH = re.compile(r"[A-Za-z0-9/._~!$&'()*+,;=:@%-]*")
_WORD = re.compile(r"[A-Za-z0-9_-]+")
_ENCRYPTIONS = {
    "AES256",
    "aws:kms",
    "aws:kms:dsse",
}  # sse-c, too, if its key is there, which nobody else could read.


def plain(name: str, value: str) -> str:
    """`value` of the variable `name`, if it is one word.

    Raises:
        SettingsError: it holds white space or control characters.
    """
    if not value.isprintable() or any(map(str.isspace, value)):
        raise SettingsError(f"{name} holds white space or a line end: set it without.")
    return value


def unquoted(name: str, value: str) -> str:
    """`value`, if it does not stand in quotes, which a shell takes away and a container's file of variables does not.

    Raises:
        SettingsError: it does.
    """
    if len(value) > 1 and value[0] in "\"'" and value[0] == value[-1]:
        raise SettingsError(f"{name} stands in quotes, which are taken for a part of it: set it without.")
    return value


def boolean(name: str, value: str) -> str:
    """Either of the words true and false. Raises `SettingsError`."""
    lowered = value.lower()
    if lowered in {"1", "true", "on", "yes"}:
        return "true"
    if lowered in {"0", "false", "off", "no"}:
        return "false"
    raise SettingsError(f"{name} must be true or false.")


def region(name: str, value: str) -> str:
    """`value`, if it may be a region. Raises `SettingsError`."""
    if not _WORD.fullmatch(plain(name, value)):
        raise SettingsError(f"{name} must be a region's short name, such as us-east-1.")
    return value


def account(name: str, value: str) -> str:
    """`value`, if it may be a storage account of Azure's. Raises `SettingsError`."""
    if not _WORD.fullmatch(plain(name, value)):
        raise SettingsError(f"{name} must be the storage account's name alone, without its address.")
    return value


def account_key(name: str, value: str) -> str:
    """`value`, if it may be the key of a storage account. Raises `SettingsError`."""
    try:
        base64.b64decode(plain(name, value), validate=True)
    except (binascii.Error, ValueError):
        raise SettingsError(f"{name} is no account key: it must be base64.") from None
    return value


def sas(name: str, value: str) -> str:
    """A shared access signature, without its question mark. Raises `SettingsError`."""
    token = plain(name, value).removeprefix("?")
    if not all("=" in part for part in token.split("&")) or "sig" not in parse_qs(token) or "://" in token:
        raise SettingsError(f"{name} is no SAS token: it must read like sv=…&sig=…, without an address.")
    return token


def encryption(name: str, value: str) -> str:
    """How S3 is to encrypt what it stores. Raises `SettingsError`."""
    if value not in _ENCRYPTIONS:
        raise SettingsError(f"{name} must be one of {', '.join(sorted(_ENCRYPTIONS))}.")
    return value


def authority(name: str, value: str) -> str:
    """An address that may be a bare host, as Azure's SDKs take it. Raises `SettingsError`."""
    return endpoint(name, value if "://" in value else f"https://{value}")


def as_it_is(_: str, value: str) -> str:
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


def is_in_figures(address: str) -> bool:
    """Whether the host of an address is one of IP, before which no name can stand."""
    try:
        ip_address(urlsplit(address).hostname or "")
    except ValueError:
        return False
    return True


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
