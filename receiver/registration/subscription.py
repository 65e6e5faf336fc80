"""What has to be done so that Gemini has one webhook for a URL, and doing it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Any

from receiver.errors import ReceiverError
from workers.gemini.access import Secret
from workers.gemini.webhooks import (
    BATCH_EVENTS,
    ENABLED,
    Webhook,
    Webhooks,
    same_url,
    signs_with,
)

_OTHER_EVENTS = ("interaction.completed", "interaction.failed", "interaction.cancelled", "video.generated")
# Of these the documentation names some only in a copy that is newer or older.
_INTERACTION = re.compile(r"interaction\.[a-z_]+")


@dataclass(frozen=True, slots=True)
class Wanted:
    """The subscription that somebody asks for; without a `name` an existing one keeps its own."""

    url: str
    events: tuple[str, ...] = BATCH_EVENTS
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Create:
    pass


@dataclass(frozen=True, slots=True)
class Update:
    webhook: Webhook
    changes: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Nothing:
    webhook: Webhook


def plan(existing: Webhook | None, wanted: Wanted) -> Create | Update | Nothing:
    """What to do so that there is one webhook as wanted."""
    if existing is None:
        return Create()
    changes: dict[str, Any] = {}
    if set(existing.subscribed_events) != set(wanted.events):
        changes["subscribed_events"] = list(wanted.events)
    if not existing.enabled:
        changes["state"] = ENABLED
    if wanted.name is not None and existing.name != wanted.name:
        changes["name"] = wanted.name
    return Update(existing, changes) if changes else Nothing(existing)


def wrong_with_event(event: str) -> str | None:
    """A sentence about an event that Gemini can't be asked for; None for one that it can."""
    if event in {*BATCH_EVENTS, *_OTHER_EVENTS} or _INTERACTION.fullmatch(event):
        return None
    if event == "batch.cancelled":
        return "of a cancelled batch Gemini tells nobody: `work` finds it by itself."
    alike = get_close_matches(event.lower(), [*BATCH_EVENTS, *_OTHER_EVENTS], 1, 0.7)
    meant = f" Did you mean {alike[0]}?" if alike else ""
    return f"{event!r} is no event: there are {', '.join(BATCH_EVENTS)}, interaction.… and video.generated.{meant}"


def still_valid(secrets: Sequence[Secret], listed: Sequence[Webhook], now: datetime) -> list[Secret]:
    """`secrets` less those that no webhook of the project signs with any more, `listed` being all of them.

    Gemini does not say how it shortens the secrets that it lists: where the list explains none of `secrets`,
    or a webhook in it shows none of its own, it proves nothing and all of them are kept.
    """
    shown = [secret for webhook in listed for secret in webhook.signing_secrets if secret.expiry > now]
    valid = [s for s in secrets if any(s.is_shown_as(each.truncated_secret) for each in shown)]
    return valid if valid and all(webhook.signing_secrets for webhook in listed) else list(secrets)


class SecretLostError(ReceiverError):
    """The webhook exists, and nobody has its secret; the message is one sentence that says what to do."""


@dataclass(frozen=True, slots=True)
class Registered:
    """What `subscribe` did: `created`, `updated`, `rotated` or `unchanged`.

    `secret` is there where it is a new one; `held` is what is still valid of the receiver's others; `doubles`
    are the ids of further webhooks with the same URL.
    """

    webhook: Webhook
    action: str
    secret: Secret | None
    held: list[Secret]
    doubles: list[str]


def subscribe(gemini: Webhooks, wanted: Wanted, held: Sequence[Secret] | None, *, rotate: bool) -> Registered:
    """Make Gemini's webhooks match `wanted`. `held` are the receiver's secrets, None where nobody can tell.

    Raises:
        SecretLostError: `held` lacks the secret, and `rotate` was not asked for; nothing was changed.
        WorkerError: a call failed.
    """
    listed = list(gemini.list())
    matches = [webhook for webhook in listed if same_url(webhook.uri, wanted.url)]
    matches.sort(key=lambda each: (not signs_with(each, held or ()), not each.enabled, each.id))
    existing, doubles = (matches[0], [each.id for each in matches[1:]]) if matches else (None, [])
    kept = still_valid(held or (), listed, datetime.now(UTC))
    secret = None
    match plan(existing, wanted):
        case Create():
            webhook, secret = gemini.create(wanted.url, wanted.events, wanted.name)
            return Registered(webhook, "created", secret, kept, doubles)
        case Update(webhook=webhook, changes=changes):
            action = "updated"
        case Nothing(webhook=webhook):
            action, changes = "unchanged", {}
    if held is not None and not rotate and not signs_with(webhook, held):
        raise SecretLostError(
            f"Webhook {webhook.id} exists for this URL, but its secret is not in the file:"
            " run the same command with --rotate to replace it."
        )
    if changes:
        webhook = gemini.update(webhook.id, changes)
    if rotate:
        action, secret = "rotated", gemini.rotate(webhook.id, revoke_now=False)
    return Registered(webhook, action, secret, kept, doubles)
