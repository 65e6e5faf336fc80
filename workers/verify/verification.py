"""What a committed batch promises, and whether the bucket keeps it: everything is read again and compared.

1. `batch.json` is there, readable, and this batch's.
2. Each raw part has the bytes, the lines and the hash that `batch.json` says, and so have all of them together.
3. The raw lines, rendered again, are what `manifest.jsonl` says, and add up to what `batch.json` says.
4. Every object that follows from them is there, no other is, and each holds what its raw line becomes; a table has
   the rows of its raw part.
5. Nothing is left in `_work/`, and `_index/` has its copy.
6. With the user's requests: each of them has a good answer.

With `quick`, sizes do for 4. Nothing is written to the bucket. Memory does not grow with the batch, but for 16 to 32
bytes a key to number repeated ones, and what the bucket needs to list a folder.
"""

from dataclasses import dataclass
from datetime import date
from pathlib import Path

import msgspec

from workers.bucket import layout
from workers.bucket.protocol import Bucket
from workers.summary import Summary, decode
from workers.verify.examination import SUMMARY, Advance, Examination, Stage
from workers.verify.findings import NOT_KNOWN_TO_BE_GOOD, OF_THE_BUCKET, Findings, Kind
from workers.verify.ledger import Ledger
from workers.verify.requests import Matched, match, write_chosen


@dataclass(frozen=True, slots=True)
class Report:
    """What was found. `summary` is None without a readable commit; `matched` without requests, or without answers.

    `resubmitted` is the number of request lines written, None where none were to be written.
    """

    batch: str
    summary: Summary | None
    findings: Findings
    objects: int
    matched: Matched | None
    resubmitted: int | None

    @property
    def is_intact(self) -> bool:
        """Whether the bucket holds what it should, and nothing else."""
        return not self.findings.any(*OF_THE_BUCKET)

    @property
    def is_good(self) -> bool:
        """Whether it is intact, and every request that it was held against is known to have a good answer."""
        return self.is_intact and not self.findings.any(*NOT_KNOWN_TO_BE_GOOD)


def unseen(_name: str, _total: int | None) -> Advance:
    """A `Stage` that nobody watches."""
    return lambda _count: None


def verify(
    bucket: Bucket,
    batch: str,
    *,
    requests: Path | None = None,
    resubmit: Path | None = None,
    stage: Stage = unseen,
    quick: bool = False,
) -> Report:
    """Check a batch in the bucket and, where `requests` is given, against the user's own file of them.

    Args:
        bucket: only read.
        batch: the bare id.
        requests: JSONL, one request a line, each with a key.
        resubmit: where to write the lines of `requests` that have no good answer.
        stage: told of progress.
        quick: compare sizes of outputs, media and tables alone, not their contents.

    Raises:
        Transient, Permanent: from the bucket, or for want of room in the temporary folder.
        SettingsError: there are tables, and no pyarrow to read them.
        OSError: `requests` can't be read, or `resubmit` not be written.
    """
    findings = Findings()
    matched = resubmitted = None
    with Ledger() as ledger:
        summary = _read_summary(bucket, batch, findings)
        examination = Examination(
            bucket,
            batch,
            findings,
            ledger,
            stage,
            with_answers=requests is not None,
            reads_contents=not quick,
        )
        if summary is not None:
            examination.run(summary)
        if requests is not None and summary is not None and examination.all_results_known:
            stage("matching requests", None)
            matched = match(requests, ledger, findings)
            if resubmit is not None:
                resubmitted = write_chosen(requests, ledger.chosen(), resubmit)
    return Report(batch, summary, findings, examination.objects, matched, resubmitted)


def _read_summary(bucket: Bucket, batch: str, findings: Findings) -> Summary | None:
    """The commit, if it is one that the rest can be held against."""
    blob = bucket.get(layout.summary(batch))
    try:
        summary = decode(blob) if blob is not None else None
    except (msgspec.MsgspecError, RecursionError):
        findings.note(Kind.DAMAGED, SUMMARY, "is not readable")
        return None
    if summary is None:
        is_begun = next(bucket.list(layout.work(batch)), None) is not None
        reason = "the batch is not committed" + (", but work on it has begun" if is_begun else "")
        findings.note(Kind.MISSING, SUMMARY, reason)
        return None
    wrong = _wrong_in(summary, batch)
    if wrong:
        findings.note(Kind.DAMAGED, SUMMARY, wrong)
        return None
    return summary


def _wrong_in(summary: Summary, batch: str) -> str | None:
    """Why nothing can be held against this summary; None if it can."""
    if summary.schema != 1:
        return f"has schema {summary.schema}, which this version does not know"
    if summary.batch != batch:
        return f"is that of batch {summary.batch}"
    if [part.object for part in summary.parts] != [layout.raw_part(n) for n in range(len(summary.parts))]:
        return "names other raw parts than those there can be"
    try:
        date.fromisoformat(summary.committed_at[:10])
    except ValueError:
        return "does not say when it was committed"
    return None
