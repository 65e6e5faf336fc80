"""Waiting for batches: until each has its `batch.json` in the bucket, or has ended without a chance of one."""

import sys
import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from sender.command_line import said
from sender.committed import Committed, committed
from sender.patience import patiently
from workers.bucket.protocol import Bucket
from workers.gemini.batches import State
from workers.gemini.client import Gemini

_FIRST_SECONDS, _LONGEST_SECONDS, _SLOWER = 0.5, 15.0, 1.3
_ASK_GEMINI_SECONDS = 30.0


def watch(gemini: Gemini, bucket: Bucket, batches: list[str]) -> bool:
    """Wait until all of them are committed; whether all succeeded.

    Raises:
        WorkerError: Gemini or the bucket does not answer, for long.
    """
    waiting, good, pause = dict.fromkeys(batches, ""), True, _FIRST_SECONDS
    asked = -_ASK_GEMINI_SECONDS
    with _bar() as bar:
        task = bar.add_task("waiting", total=len(batches))
        while waiting:
            for batch in list(waiting):
                found = committed(bucket, batch)
                if found is not None:
                    del waiting[batch]
                    good &= found.state == State.SUCCEEDED
                    bar.advance(task)
                    said(_told(batch, found))
            if not waiting:
                break
            if time.monotonic() - asked >= _ASK_GEMINI_SECONDS:
                asked = time.monotonic()
                _ask(gemini, waiting)
            states = sorted({state for state in waiting.values() if state})
            bar.update(task, description=f"waiting ({', '.join(states)})")
            time.sleep(pause)
            pause = min(_LONGEST_SECONDS, pause * _SLOWER)
    return good


def _ask(gemini: Gemini, waiting: dict[str, str]) -> None:
    """What Gemini says of those that are waited for; what changed is told."""
    for batch, before in list(waiting.items()):
        answer = patiently(lambda batch=batch: gemini.batch(batch))  # type: ignore[misc]
        state = answer.state_name
        if answer.pending is not None and not answer.final:
            state += f", {answer.pending} of {answer.expected or '?'} pending"
        if answer.final and state != before:
            said(f"batches/{batch} has ended ({state}); its results come with `batch-receiver work`.")
        waiting[batch] = state


def _told(batch: str, found: Committed) -> str:
    counts = found.counts
    sentence = f"batches/{batch} is in the bucket: {found.state}, {counts.total} results"
    return f"{sentence} ({counts.succeeded} succeeded, {counts.failed} failed, {counts.invalid} invalid)."


def _bar() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())
