"""What the receiver and the workers agree on. A leaf: it imports neither of the two, no bucket and no HTTP client.

`announcements` says what may be said about a batch, `queues` where it waits.
"""

from workers.contract.announcements import BATCH_ID, Announced, Announcement, Outcome, Trigger, parse_batch_id
from workers.contract.history.states import text
from workers.contract.queues import (
    FAN_OUT_PART,
    MAX_WAITING_STRANGERS,
    PREFIX,
    PROCESS_BATCH,
    TELL,
    Queues,
)
from workers.contract.records import CRASH_RETRIES, DeletableJob

__all__ = [
    "BATCH_ID",
    "CRASH_RETRIES",
    "FAN_OUT_PART",
    "MAX_WAITING_STRANGERS",
    "PREFIX",
    "PROCESS_BATCH",
    "TELL",
    "Announced",
    "Announcement",
    "DeletableJob",
    "Outcome",
    "Queues",
    "Trigger",
    "parse_batch_id",
    "text",
]
