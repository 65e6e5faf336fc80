"""The public address as the outside sees it, and a test event that makes the whole way."""

import time
from urllib.parse import urlsplit, urlunsplit

import httpx

from console.doctor.check import Finding, failed, ok, warning
from console.doctor.fact import CannotTell
from console.doctor.place import Place
from workers.contract import Queues
from workers.contract.history.pages import Pages
from workers.contract.history.states import Delivered
from workers.errors import WorkerError

_PING_SECONDS = 10.0
_LOOK_SECONDS = 0.1


def of_public_url(place: Place) -> Finding:
    url = place.url or place.ours().uri
    try:
        with place.http() as http:
            unsigned = http.post(url, content=b"{}", headers={"content-type": "application/json"})
            elsewhere = http.get(_other(url))
    except httpx.HTTPError as error:
        return failed(f"{url} can't be reached from here: {_reason(error)}.")
    status = unsigned.status_code
    if status != 401:
        return failed(f"{url} answers {status} to a post without a signature, not 401: {_meaning(status)}.")
    if elsewhere.status_code != 404:
        return warning(
            f"{_other(url)} answers {elsewhere.status_code}: more than the webhook can be reached from outside, check"
            " the proxy."
        )
    return ok(f"{url} refuses what is not signed, and nothing else is there.")


def of_ping(place: Place) -> Finding:
    ours = place.ours()
    if not ours.enabled:
        raise CannotTell("Can't be told before `webhook state` is mended.")
    queues = place.queues()
    before = queues.now()
    try:
        place.gemini().webhooks.ping(ours.id)
    except WorkerError as error:
        return failed(f"Gemini sends no test event: {error}")
    deadline = time.monotonic() + _PING_SECONDS
    while time.monotonic() < deadline:
        outcome = _arrived(queues, before)
        if outcome == Delivered.REFUSED:
            return failed("Gemini's test event arrived and was refused: its signature is not of our secret.")
        if outcome:
            return ok("Gemini's test event arrived.")
        time.sleep(_LOOK_SECONDS)
    return failed(
        f"Gemini's test event did not arrive at {ours.uri} within {_PING_SECONDS:g} s: look at the receiver's log and"
        " at the proxy's."
    )


def _arrived(queues: Queues, since: float) -> str | None:
    """What became of a delivery that came since, by Redis's clock; one that was refused counts last."""
    entries = Pages(queues.connection, queues.prefix).deliveries(limit=20)
    outcomes = [entry.fields["outcome"] for entry in entries if entry.at >= since]
    good = (each for each in outcomes if each not in {Delivered.REFUSED, Delivered.UNAVAILABLE})
    return next(good, outcomes[0] if outcomes else None)


def _other(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc, f"{parts.path.rstrip('/')}/doctor", "", ""))


def _reason(error: httpx.HTTPError) -> str:
    text = str(error)
    if "CERTIFICATE" in text or "SSL" in text:
        return f"its TLS is not trusted ({' '.join(text.split())[:200]})"
    if isinstance(error, httpx.TimeoutException):
        return "no answer in time"
    return " ".join(text.split())[:200] or type(error).__name__


def _meaning(status: int) -> str:
    match status:
        case 404:
            return "the path is another one, or the proxy does not pass it on"
        case 405 | 301 | 302 | 303 | 307 | 308:
            return "something before the receiver redirects or refuses posts"
        case 502 | 503 | 504:
            return "the receiver is not running, or Redis is away"
        case 200 | 202 | 204:
            return "whatever is there believes anybody"
        case _:
            return "something else than the receiver answers there"
