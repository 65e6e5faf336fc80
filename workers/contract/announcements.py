"""What may be said about a batch: who announces it, and what becomes of that. Pure."""

import re
from dataclasses import dataclass
from enum import StrEnum

BATCH_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")


class Trigger(StrEnum):
    """Who announced a batch, weakest first: a dynamic webhook proves only that Google sent it."""

    DYNAMIC = "dynamic"
    RECONCILE = "reconcile"
    WEBHOOK = "webhook"
    REPLAY = "replay"
    PROCESS = "process"


class Outcome(StrEnum):
    """What became of an announcement."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    FULL = "full"
    """Nothing was recorded: too many batches that only dynamic webhooks told of wait already."""


@dataclass(frozen=True, slots=True)
class Announcement:
    """Somebody says that a batch has ended.

    `user_metadata` is JSON text as it came with a dynamic event, bounded by the sender's body limit. `urgent`: its
    results are near their end, so its job goes before all others. `refetch`: fetch it again though it is committed.
    `event` and `delivery`: the type and the id of the delivery that says so, if one did.
    """

    batch: str
    trigger: Trigger
    user_metadata: str | None = None
    urgent: bool = False
    refetch: bool = False
    event: str | None = None
    delivery: str | None = None


@dataclass(frozen=True, slots=True)
class Announced:
    """All that has been announced about one batch so far. `count` grows with every announcement."""

    triggers: frozenset[Trigger]
    count: int
    user_metadata: str | None
    refetch: bool = False

    @property
    def strongest(self) -> Trigger:
        return max(self.triggers, key=list(Trigger).index, default=Trigger.DYNAMIC)

    @property
    def impatient(self) -> bool:
        """Whether somebody waits for it: a timer does not."""
        return bool(self.triggers - {Trigger.RECONCILE})


def parse_batch_id(text: object) -> str | None:
    """The bare id of `batches/<id>` or `<id>`; None where it is not a batch id."""
    if not isinstance(text, str):
        return None
    bare = text.removeprefix("batches/")
    return bare if BATCH_ID.fullmatch(bare) else None
