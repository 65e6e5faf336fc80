"""What REDIS_URL may be: one server, or the sentinels that know which server is the master at the moment."""

from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

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


def parse(url: str) -> Followed | None:
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
