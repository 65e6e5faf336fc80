"""What Gemini said of a batch, and who announced it: kept in `_work/` until the commit."""

from typing import Any

import msgspec

from workers.bucket import layout
from workers.bucket.protocol import Bucket
from workers.contract import Trigger
from workers.gemini.batches import Batch, State


class Plan(msgspec.Struct, frozen=True):
    """What `batch.json` will say of a batch besides its results."""

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


_plan = msgspec.json.Decoder(Plan)


def plan_of(batch: Batch, trigger: Trigger, user_metadata: Any) -> Plan:
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
    )


def read_plan(bucket: Bucket, batch: str) -> Plan | None:
    """The plan of a batch, or None: it was never begun, or has been committed."""
    blob = bucket.get(layout.plan(batch))
    return _plan.decode(blob) if blob is not None else None


def write_plan(bucket: Bucket, plan: Plan) -> None:
    """Store a plan, in place of an earlier one."""
    bucket.put(layout.plan(plan.batch), msgspec.json.encode(plan), layout.JSON)
