"""What the receiver and the workers agree on. A leaf: it imports neither of the two, no bucket and no HTTP client.

`announcements` says what may be said about a batch, `queues` where it waits.
"""

from workers.contract.announcements import BATCH_ID, Announced, Announcement, Outcome, Trigger, parse_batch_id
from workers.contract.queues import (
    FAN_OUT_PART,
    MAX_WAITING_STRANGERS,
    PREFIX,
    PROCESS_BATCH,
    Queues,
)
from workers.contract.records import CRASH_RETRIES, DeletableJob
from workers.contract.states import text

__all__ = [
    "BATCH_ID",
    "CRASH_RETRIES",
    "FAN_OUT_PART",
    "MAX_WAITING_STRANGERS",
    "PREFIX",
    "PROCESS_BATCH",
    "Announced",
    "Announcement",
    "DeletableJob",
    "Outcome",
    "Queues",
    "Trigger",
    "parse_batch_id",
    "text",
]
