"""Single steps of a batch's story, for tests that tell it one by one."""

from workers import commit, parts
from workers.bucket.protocol import Bucket
from workers.decision import Finish, Nothing, next_step
from workers.process import gather
from workers.summary import Summary


def finish(bucket: Bucket, batch: str) -> Summary | None:
    """Commit a batch whose parts are all done; None while some are not. What is committed stays, and is tidied up."""
    facts = gather(bucket, batch)
    step = next_step(facts)
    if isinstance(step, Finish) and facts.plan and facts.split:
        return commit.finish(bucket, facts.plan, facts.split)
    if isinstance(step, Nothing) and facts.summary:
        return commit.tidy(bucket, facts.summary)
    return None


def all_done(bucket: Bucket, batch: str) -> bool:
    """Whether the source is wholly split and all its parts are fanned out."""
    whole = parts.read_split(bucket, batch)
    return whole is not None and not parts.lacking(bucket, batch, whole)
