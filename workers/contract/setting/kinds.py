"""What the text of a setting may be, and the value that it stands for. Equal things have equal rules."""

import re
from base64 import b64decode
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Generic, TypeVar
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

T = TypeVar("T")

_KEY_BYTES = (24, 64)  # Standard Webhooks, "Symmetric signatures"

_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_SIZE = re.compile(r"([0-9]{1,12})\s*([kmg]?)(?:i?b)?", re.ASCII)
_WHOLE = re.compile(r"[0-9]{1,9}", re.ASCII)
_PREFIX = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_HEADER = re.compile(r"[A-Za-z0-9-]{1,64}")
_VISIBLE_ASCII = re.compile(r"[\x21-\x7e]+")
_HOST_NAME = re.compile(r"[A-Za-z0-9._-]*[A-Za-z_-][A-Za-z0-9._-]*")


@dataclass(frozen=True, slots=True)
class Kind(Generic[T]):
    """`rule` follows the setting's name in a sentence; `parse` raises ValueError for what breaks it.

    White space around a text means nothing, unless it is `exact`.
    """

    rule: str
    parse: Callable[[str], T]
    exact: bool = False


def text() -> Kind[str]:
    return Kind("may be any text", str)


def switch() -> Kind[bool]:
    return Kind("must be on or off", lambda given: {"on": True, "off": False}[given.lower()])


def whole(*, least: int, most: int | None = None) -> Kind[int]:
    """A number without a unit. At most nine digits."""

    def parse(given: str) -> int:
        if not _WHOLE.fullmatch(given):
            raise ValueError
        return _bounded(int(given), least, most)

    bounds = f"of at least {least}" if most is None else f"from {least} to {most}"
    return Kind(f"must be a whole number {bounds}", parse)


def size(*, least: int = 1, most: int | None = None) -> Kind[int]:
    """Bytes, in powers of 1024 where a unit is given."""

    def parse(given: str) -> int:
        found = _SIZE.fullmatch(given.lower())
        if not found:
            raise ValueError
        return _bounded(int(found[1]) * _UNITS[found[2]], least, most)

    bounds = "" if most is None else f", from {least} to {most}"
    return Kind(f"must be a number of bytes, such as 16777216 or 16MiB{bounds}", parse)


def some_of(*choices: str) -> Kind[frozenset[str]]:
    """One or more of `choices`."""

    def parse(given: str) -> frozenset[str]:
        names = frozenset(name.strip() for name in given.split(",") if name.strip())
        if not names or not names.issubset(choices):
            raise ValueError
        return names

    return Kind(f"must be one or more of {', '.join(choices)}, separated by commas", parse)


def one_of(*choices: str) -> Kind[str]:
    def parse(given: str) -> str:
        if given not in choices:
            raise ValueError
        return given

    return Kind(f"must be one of {', '.join(choices)}", parse)


def key() -> Kind[str]:
    """An API key: nothing that could end a header or be lost on the way."""

    def parse(given: str) -> str:
        if not _VISIBLE_ASCII.fullmatch(given):
            raise ValueError
        return given

    return Kind("holds characters that no API key has", parse, exact=True)


def header() -> Kind[str]:
    """The name of an HTTP header, in small letters."""

    def parse(given: str) -> str:
        if not _HEADER.fullmatch(given):
            raise ValueError
        return given.lower()

    return Kind("must be the name of a header: letters, digits and -", parse)


def prefix() -> Kind[str]:
    def parse(given: str) -> str:
        if not _PREFIX.fullmatch(given):
            raise ValueError
        return given

    return Kind("must be letters, digits, - and _, at most 64 of them", parse)


def redis_url() -> Kind[str]:
    def parse(given: str) -> str:
        parse_redis(given)
        return given

    return Kind(
        "must be an address that begins with redis://, rediss:// or unix://, or"
        " redis+sentinel://host:port,host:port/service/0",
        parse,
    )


def web_url(*, is_base: bool = True) -> Kind[str]:
    """Without a slash at its end, where other paths are put behind it."""

    def parse(given: str) -> str:
        if not is_https_or_loopback(given):
            raise ValueError
        return given.rstrip("/") if is_base else given

    return Kind("must be an https:// address (plain http only on this machine)", parse)


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen."""

    host: str
    port: int


def address() -> Kind[Address]:
    """A host and a port; an IPv6 address stands in brackets."""

    def parse(given: str) -> Address:
        parts = urlsplit(f"//{given}")
        if not parts.hostname or parts.port is None or given != parts.netloc or "@" in given:
            raise ValueError
        return Address(parts.hostname, parts.port)

    return Kind("must be host:port, such as 127.0.0.1:9100", parse)


def signing_secret() -> Kind[str]:
    """One key of Standard Webhooks."""

    def parse(given: str) -> str:
        key = b64decode(given.removeprefix("whsec_"), validate=True)
        if not given.startswith("whsec_") or not _KEY_BYTES[0] <= len(key) <= _KEY_BYTES[1]:
            raise ValueError
        return given

    return Kind("must be whsec_ and the base64 of 24 to 64 bytes", parse)


def url_path(*, taken: frozenset[str]) -> Kind[str]:
    """The path of a URL that is none of the `taken` ones."""
    allowed = re.compile(r"/[A-Za-z0-9._~/-]{1,255}")

    def parse(given: str) -> str:
        if not allowed.fullmatch(given) or given in taken:
            raise ValueError
        return given

    others = " or ".join(sorted(taken))
    return Kind(f"must begin with /, hold only letters, digits, and . _ ~ / -, and not be {others}", parse)


def is_https_or_loopback(url: str) -> bool:
    """Whether what is sent to `url` can't be read on the way: https, or http that stays on this machine."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return False
    host = parts.hostname
    if not host or "@" in parts.netloc or not _VISIBLE_ASCII.fullmatch(url):
        return False
    address = _address(host)
    if address is None and not _HOST_NAME.fullmatch(host):
        return False
    is_loopback = address.is_loopback if address else host == "localhost"
    return parts.scheme == "https" or (parts.scheme == "http" and is_loopback)


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def _bounded(number: int, least: int, most: int | None) -> int:
    if number < least or (most is not None and number > most):
        raise ValueError
    return number


SCHEMES = ("redis", "rediss", "unix", "redis+sentinel")

_SENTINEL_PORT = 26379
_OF_SENTINELS = "sentinel_"
_REPLICAS = "replicas"


@dataclass(frozen=True, slots=True)
class Followed:
    """Where sentinels are, and what they are asked for.

    `url` has the rest for whichever server they name, under a host that is nobody's; `options` are the sentinels' own
    (`username`, `password`); `replicas` are how many have to have what is acknowledged, None where it does not say.
    """

    sentinels: tuple[tuple[str, int], ...]
    service: str
    url: str
    options: dict[str, str]
    replicas: int | None


def parse_redis(url: str) -> Followed | None:
    """None where the address names its server itself. Raises ValueError for what can be no address of Redis."""
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES:
        raise ValueError
    if parts.scheme != SCHEMES[-1]:
        _ = parts.port  # raises for a port that is no number
        return None
    user, at, hosts = parts.netloc.rpartition("@")
    service, _, database = parts.path.removeprefix("/").partition("/")
    if not service or not (database or "0").isdecimal():
        raise ValueError
    query = parse_qsl(parts.query, strict_parsing=bool(parts.query))
    said = dict(query).get(_REPLICAS)
    replicas = int(said) if said is not None else None
    if replicas is not None and replicas < 0:
        raise ValueError
    return Followed(
        tuple(_host_and_port(each) for each in hosts.split(",")),
        unquote(service),
        f"redis://{user}{at}sentinel/{database or 0}?"
        + urlencode(
            [(name, value) for name, value in query if not name.startswith((_OF_SENTINELS, _REPLICAS))]
        ),
        {name.removeprefix(_OF_SENTINELS): value for name, value in query if name.startswith(_OF_SENTINELS)},
        replicas,
    )


def shown(url: str) -> str:
    """The address without user, password and options, for a log."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _host_and_port(text: str) -> tuple[str, int]:
    parts = urlsplit(f"//{text}")
    if not parts.hostname:
        raise ValueError
    return parts.hostname, parts.port or _SENTINEL_PORT
