"""The last step: joins what the parts became, checks that every line is accounted for, and writes `batch.json`.

Whoever reads the bucket acts on `batch.json` alone, so it is written after all that it stands for is stored.
"""

import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec

from workers.bucket import layout
from workers.bucket.protocol import Bucket, MissingObject, join
from workers.errors import Incomplete
from workers.fanout import read_tally
from workers.gemini.batches import State
from workers.parts import Piece, Split, read_split
from workers.plan import Plan, read_plan
from workers.results.answers import USAGE_FIELDS
from workers.results.documents import objects_of
from workers.results.lines import lines
from workers.results.tally import Tally

_EMPTY_SHA256 = hashlib.sha256().hexdigest()


class PartSummary(msgspec.Struct, frozen=True):
    object: str
    lines: int
    bytes: int
    sha256: str


class Counts(msgspec.Struct, frozen=True):
    total: int = 0
    succeeded: int = 0
    failed: int = 0
    invalid: int = 0


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """`batch.json`."""

    schema: int = 1
    batch: str
    state: State
    display_name: str | None
    model: str | None
    created_at: str | None
    ended_at: str | None
    committed_at: str
    revision: int
    trigger: str
    counts: Counts
    finish_reasons: dict[str, int]
    model_versions: dict[str, int] = {}
    usage: dict[str, int]
    batch_stats: Any
    parts: list[PartSummary]
    raw_bytes: int
    raw_sha256: str
    error: Any
    user_metadata: Any
    warnings: list[str]


_summary = msgspec.json.Decoder(Summary)


def read_summary(bucket: Bucket, batch: str) -> Summary | None:
    """The commit of a batch, or None.

    Raises:
        Incomplete: there is a `batch.json` that is none of ours.
    """
    blob = bucket.get(layout.summary(batch))
    if blob is None:
        return None
    try:
        return _summary.decode(blob)
    except msgspec.MsgspecError:
        raise Incomplete(
            f"{layout.summary(batch)} is not readable; move it away and replay the batch."
        ) from None


def finish(bucket: Bucket, batch: str) -> Summary | None:
    """Commit a batch whose parts are all done; None while some are missing.

    Twice at the same time does no harm: both write the same manifest, and a batch that is committed stays as it is.

    Raises:
        Incomplete: the parts don't add up to what was downloaded.
    """
    committed = read_summary(bucket, batch)
    if committed and committed.state is State.SUCCEEDED:
        return tidy(bucket, committed)
    plan, split = read_plan(bucket, batch), read_split(bucket, batch)
    if plan is None or split is None:
        return committed
    total = Tally()
    tables = []
    for piece in split.parts:
        tally = read_tally(bucket, batch, piece)
        if tally is None:
            return None
        if piece.lines != tally.lines:
            raise Incomplete(
                f"{layout.raw_part(piece.number)}: {piece.lines} lines came, {tally.lines} were fanned out."
            )
        total.add(tally)
        if tally.dataset:
            tables.append(piece)
    try:
        _join_manifests(bucket, batch, split.parts)
        _place_tables(bucket, batch, tables)
    except MissingObject:
        # Another finish may have committed, and tidied up, in the meantime.
        return read_summary(bucket, batch)
    if committed:
        _remove_strays(bucket, batch, split.parts, tables)
    return _commit(bucket, plan, split, total, committed)


def commit_without_results(bucket: Bucket, plan: Plan) -> Summary:
    """Commit a batch that failed, expired, or was cancelled with nothing to show."""
    committed = read_summary(bucket, plan.batch)
    if committed and (committed.state is State.SUCCEEDED or committed.state is plan.state):
        return tidy(bucket, committed)
    if committed:
        bucket.delete(name for name, _ in list(bucket.list(plan.batch)) if name != layout.summary(plan.batch))
    return _commit(bucket, plan, Split([], 0, 0, _EMPTY_SHA256), Tally(), committed)


def tidy(bucket: Bucket, summary: Summary) -> Summary:
    """After a commit: the copy in `_index/`, and `_work/` removed. Repeats what a crash left undone."""
    name, copy = layout.index(summary.committed_at[:10], summary.batch), encoded(summary)
    if bucket.get(name) != copy:
        bucket.put(name, copy, layout.JSON)
    bucket.delete_tree(layout.work(summary.batch))
    return summary


def encoded(summary: Summary) -> bytes:
    """As it stands in the bucket: indented for people, with a line end."""
    return msgspec.json.format(msgspec.json.encode(summary), indent=2) + b"\n"


def _commit(bucket: Bucket, plan: Plan, split: Split, total: Tally, replaced: Summary | None) -> Summary:
    counts = Counts(total=total.lines, **total.counts)
    summary = Summary(
        batch=plan.batch,
        state=plan.state,
        display_name=plan.display_name,
        model=plan.model,
        created_at=plan.created_at,
        ended_at=plan.ended_at,
        committed_at=datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        revision=replaced.revision + 1 if replaced else 1,
        trigger=plan.trigger,
        counts=counts,
        finish_reasons=dict(sorted(total.finish_reasons.items())),
        model_versions=dict(sorted(total.model_versions.items())),
        usage={field: total.usage.get(field, 0) for field in USAGE_FIELDS},
        batch_stats=plan.batch_stats,
        parts=[PartSummary(layout.raw_part(p.number), p.lines, p.bytes, p.sha256) for p in split.parts],
        raw_bytes=split.raw_bytes,
        raw_sha256=split.raw_sha256,
        error=plan.error,
        user_metadata=plan.user_metadata,
        warnings=list(_warnings(plan, counts, total, len(split.parts))),
    )
    if replaced:
        # First, so that a crash never leaves two copies of one batch: `tidy` brings the new one.
        bucket.delete([layout.index(replaced.committed_at[:10], plan.batch)])
        bucket.put(layout.summary(plan.batch), encoded(summary), layout.JSON)
    elif not bucket.create(layout.summary(plan.batch), encoded(summary), layout.JSON):
        # Another worker was faster with the same; what it committed stays.
        summary = read_summary(bucket, plan.batch) or summary
    return tidy(bucket, summary)


def _join_manifests(bucket: Bucket, batch: str, parts: list[Piece]) -> None:
    names = [layout.part_manifest(batch, part.number, part.sha256) for part in parts]
    if len(names) == 1:
        bucket.copy(names[0], layout.manifest(batch), layout.JSON_LINES)
        return
    join(bucket, names, layout.manifest(batch), layout.JSON_LINES)


def _place_tables(bucket: Bucket, batch: str, parts: list[Piece]) -> None:
    for part in parts:
        bucket.copy(
            layout.staged_dataset(batch, part.number, part.sha256),
            layout.inside(batch, layout.dataset_part(part.number)),
            layout.PARQUET,
        )


def _remove_strays(bucket: Bucket, batch: str, parts: list[Piece], tables: list[Piece]) -> None:
    """Delete what an earlier revision left and this one does not have: its manifest is already replaced."""
    known = {layout.summary(batch), layout.manifest(batch)}
    known.update(layout.inside(batch, layout.raw_part(part.number)) for part in parts)
    known.update(layout.inside(batch, layout.dataset_part(part.number)) for part in tables)
    for line in lines(bucket.read(layout.manifest(batch))):
        if line.data:
            known.update(layout.inside(batch, name) for name in objects_of(line.data))
    bucket.delete(name for name, _ in list(bucket.list(batch)) if name not in known)


def _warnings(plan: Plan, counts: Counts, total: Tally, parts: int) -> Iterable[str]:
    stats = plan.batch_stats if isinstance(plan.batch_stats, dict) else {}
    for field, name, ours in (
        ("requestCount", "requests", counts.total),
        ("successfulRequestCount", "successful requests", counts.succeeded),
        ("failedRequestCount", "failed requests", counts.failed + counts.invalid),
    ):
        theirs = stats.get(field)
        if theirs is not None and str(theirs) != str(ours):
            yield f"Gemini counts {theirs} {name}, the results hold {ours}."
    if unexplained := total.unexplained_tokens:
        differ = "less" if unexplained > 0 else "more"
        yield f"The parts of the token counts add up to {abs(unexplained)} {differ} than total_tokens."
    if 0 < total.dataset < parts:
        yield f"dataset/ holds {total.dataset} of {parts} parts: OUTPUTS was changed while the batch was processed."
    if total.repeated:
        yield (
            f"{total.repeated} results repeat the key of an earlier one: "
            "see the names with @2 and up in manifest.jsonl."
        )
    if counts.invalid:
        yield f"{counts.invalid} lines are invalid: see manifest.jsonl, and raw/ for their bytes."
