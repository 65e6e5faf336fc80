"""What Gemini said of a batch, and who announced it: kept in `_work/` until the commit."""

from typing import Any

import msgspec

from workers import notes
from workers.bucket import layout
from workers.bucket.protocol import Bucket
from workers.contract import Trigger
from workers.gemini.batches import Batch, State


class Plan(msgspec.Struct, frozen=True):
    """What `batch.json` will say of a batch besides its results.

    `refetches` is the revision that this is to replace because somebody wanted it fetched once more.
    """

    batch: str
    state: State
    display_name: str | None
    model: str | None
    created_at: str | None
    ended_at: str | None
    batch_stats: Any
    error: Any
    trigger: Trigger
    user_metadata: Any
    refetches: int | None = None


_plan = msgspec.json.Decoder(Plan)


def plan_of(batch: Batch, trigger: Trigger, user_metadata: Any, refetches: int | None = None) -> Plan:
    return Plan(
        batch=batch.id,
        state=batch.state,
        display_name=batch.display_name,
        model=batch.model,
        created_at=batch.created_at,
        ended_at=batch.ended_at,
        batch_stats=batch.stats,
        error=batch.error,
        trigger=trigger,
        user_metadata=user_metadata,
        refetches=refetches,
    )


def read_plan(bucket: Bucket, batch: str) -> Plan | None:
    """The plan of a batch, or None: it was never begun, has been committed, or was begun by a version unlike this."""
    return notes.read(bucket, layout.plan(batch), _plan)


def write_plan(bucket: Bucket, plan: Plan) -> None:
    """Store a plan, in place of an earlier one."""
    notes.write(bucket, layout.plan(plan.batch), plan)
