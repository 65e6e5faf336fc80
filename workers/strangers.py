"""A limit on look-ups for batches that turn out not to be ours.

Anyone with a Gemini key can have Google sign events about batches of theirs for our URL. Each costs one look-up
with our key, and so some of our quota; beyond the limit they wait.
"""

import random
import time

from workers import contract
from workers.contract import Queues
from workers.errors import Transient

LOOK_UPS_A_MINUTE = 60


class TooManyStrangers(Transient):
    """So many batches that only dynamic webhooks told of were not ours that the next one waits."""


def check(queues: Queues, now: float | None = None) -> None:
    """Before looking up a batch that nothing but a dynamic webhook told of.

    Raises:
        TooManyStrangers: this minute's look-ups are used up; `retry_after` is the rest of it.
    """
    now = time.time() if now is None else now
    if int(contract.text(queues.connection.get(_key(queues, now)) or "0")) >= LOOK_UPS_A_MINUTE:
        raise TooManyStrangers(
            "Too many batches of others were announced in this minute; this one is looked at later.",
            # Not all in the same second, ahead of genuine batches.
            retry_after=60 - now % 60 + random.uniform(0, 60),  # noqa: S311 - jitter, not a secret
        )


def note(queues: Queues, now: float | None = None) -> None:
    """Count a batch that was not ours."""
    key = _key(queues, time.time() if now is None else now)
    with queues.connection.pipeline() as pipe:
        pipe.incr(key)
        pipe.expire(key, 120)
        pipe.execute()


def _key(queues: Queues, now: float) -> str:
    return queues.key(f"strangers:{int(now // 60)}")
