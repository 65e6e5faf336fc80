"""Gemini: is our key accepted, whose batches does it see, and is the webhook there as we want it?"""

import shlex
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from fnmatch import fnmatchcase
from urllib.parse import urlsplit

import httpx

from console.doctor.check import Finding, failed, ok, warning
from console.doctor.fact import CannotTell
from console.doctor.place import Place
from workers.contract.settings import (
    BATCH_DISPLAY_NAME,
    GOOGLE_GEMINI_BASE_URL,
    WEBHOOK_JWKS_URL,
    WEBHOOK_PATH,
    WEBHOOK_TOLERANCE_SECONDS,
)
from workers.errors import WorkerError
from workers.gemini.webhooks import BATCH_EVENTS, same_url, signs_with

_CLOCK_SECONDS = 30.0


def of_key(place: Place) -> Finding:
    try:
        batches = place.batches.found()
    except WorkerError as error:
        return failed(str(error))
    if not batches:
        return ok("Gemini accepts it. Its project has no batches yet.")
    pattern = place.setting(BATCH_DISPLAY_NAME)
    matching = sum(fnmatchcase(batch.display_name or "", pattern) for batch in batches)
    newest = f"the newest is batches/{batches[0].id} ({batches[0].display_name or 'without a name'})"
    many = "its newest batches" if len(batches) > 1 else "one batch"
    if not matching:
        return warning(
            f"Gemini accepts it, but no batch of its project has a display name like {pattern}; {newest}:"
            " check BATCH_DISPLAY_NAME, and that it is the key of the project that runs them."
        )
    return ok(f"Gemini accepts it. It sees {many}; {newest}.")


def of_webhook(place: Place) -> Finding:
    ours = place.find_ours()
    if ours is not None:
        return ok(f"{ours.id} leads to {ours.uri}.")
    others = [each.uri for each in place.webhooks.needed()]
    told = f" Those of this project lead to {', '.join(others[:5])}." if others else ""
    url = place.url or f"https://YOUR-HOST{place.setting(WEBHOOK_PATH)}"
    fix = _register(place, url) if place.url else None
    return failed(f"No webhook is registered for {url}: batches are only found by reconcile.{told}", fix)


def of_state(place: Place) -> Finding:
    ours = place.ours()
    if ours.enabled:
        return ok(f"{ours.id} is enabled.")
    why = "Gemini disabled it after failed deliveries" if ours.disabled_for_failures else "somebody did it"
    return failed(f"{ours.id} is disabled ({why}): nothing is delivered.", _register(place, ours.uri))


def of_events(place: Place) -> Finding:
    ours = place.ours()
    lacking = [event for event in BATCH_EVENTS if event not in ours.subscribed_events]
    if lacking:
        return failed(
            f"{ours.id} is not told of {', '.join(lacking)}: these batches are only found by reconcile.",
            _register(place, ours.uri),
        )
    return ok("It is told of batches that succeed, fail and expire.")


def of_url(place: Place) -> Finding:
    ours, path = place.ours(), place.setting(WEBHOOK_PATH)
    if urlsplit(ours.uri).path != path:
        return failed(
            f"{ours.id} leads to {ours.uri}, but `serve` listens at {path}: set WEBHOOK_PATH, or register the right"
            " address."
        )
    doubles = [
        each.id for each in place.webhooks.needed() if each.id != ours.id and same_url(each.uri, ours.uri)
    ]
    if doubles:
        return warning(
            f"There are {len(doubles) + 1} webhooks for {ours.uri}: everything is delivered several times.",
            " && ".join(place.command(f"webhooks delete {shlex.quote(each)} --yes") for each in doubles),
        )
    return ok(f"{ours.uri} ends in WEBHOOK_PATH.")


def of_secret(place: Place) -> Finding:
    secrets = place.secrets.needed()
    if not secrets:
        raise CannotTell("No signing secret here: run it where `batch-receiver serve` runs, too.")
    ours = place.ours()
    if not ours.signing_secrets:
        raise CannotTell("Gemini shows no part of the webhook's secrets.")
    if signs_with(ours, secrets):
        return ok(f"The secret here is the one that {ours.id} signs with.")
    rotated = f"{_register(place, ours.uri)} --rotate" if place.secret_file else None
    return failed(
        f"The secret here is not the one that {ours.id} signs with: every delivery is refused with 401.",
        rotated,
    )


def of_keys_of_google(place: Place) -> Finding:
    if not place.is_dynamic:
        raise CannotTell("WEBHOOK_DYNAMIC is off: nothing is verified with Google's keys.")
    url = place.setting(WEBHOOK_JWKS_URL)
    try:
        with place.http() as http:
            answer = http.get(url)
        keys = answer.json()["keys"] if answer.status_code == 200 else []
        count = len(keys)
    except httpx.HTTPError as error:
        return failed(f"{url} does not answer ({type(error).__name__}): check WEBHOOK_JWKS_URL.")
    except (ValueError, LookupError, TypeError):
        count = 0
    if not count:
        return failed(
            f"{url} holds no keys (status {answer.status_code}): dynamic webhooks can't be verified, check"
            " WEBHOOK_JWKS_URL."
        )
    return ok(f"{url} holds {count} key{'s' if count > 1 else ''}.")


def of_clock(place: Place) -> Finding:
    """Signatures are only good for some minutes, so a wrong clock refuses them all."""
    url = place.setting(GOOGLE_GEMINI_BASE_URL)
    try:
        with place.http() as http:
            answer = http.head(url)
        there = parsedate_to_datetime(answer.headers["date"])
    except httpx.HTTPError as error:
        raise CannotTell(f"Gemini does not answer ({type(error).__name__}).") from None
    except (KeyError, ValueError):
        raise CannotTell("Gemini did not say what time it is.") from None
    difference = (datetime.now(UTC) - there).total_seconds() - answer.elapsed.total_seconds() / 2
    words = f"This machine's clock is {abs(difference):.0f} s {'ahead of' if difference > 0 else 'behind'} Gemini's"
    if abs(difference) > place.setting(WEBHOOK_TOLERANCE_SECONDS):
        return failed(
            f"{words}: deliveries are refused as too old. Have it set by NTP.", "timedatectl set-ntp true"
        )
    if abs(difference) > _CLOCK_SECONDS:
        return warning(f"{words}: have it set by NTP.", "timedatectl set-ntp true")
    return ok("This machine's clock is Gemini's, give or take a second.")


def _register(place: Place, url: str) -> str:
    file = place.secret_file
    return place.command(
        f"register --url {shlex.quote(url)}" + (f" --secret-file {shlex.quote(file)}" if file else "")
    )
