"""The last step: joins what the parts became, checks that every line is accounted for, and writes `batch.json`.

Whoever reads the bucket acts on `batch.json` alone, so it is written after all that it stands for is stored.
"""

import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime

import msgspec
from msgspec.structs import replace

from workers import cost, notices
from workers.bucket import layout
from workers.bucket.protocol import Bucket, MissingObject, join
from workers.completeness import Completeness, completeness, sentences
from workers.errors import BucketUnavailable, Incomplete
from workers.fanout import read_tally
from workers.gemini.batches import State, integer
from workers.parts import Piece, Split
from workers.plan import Plan
from workers.results.answers import USAGE_FIELDS
from workers.results.documents import objects_of
from workers.results.lines import lines
from workers.results.tally import Tally
from workers.summary import Counts, PartSummary, Summary, decode_summary, gives_way, read_summary

_ADVICE = " `batch-receiver replay --refetch` fetches them once more, while Gemini has their file."

NO_RESULTS = Split([], 0, 0, hashlib.sha256().hexdigest())


def finish(bucket: Bucket, plan: Plan, split: Split, *, is_told: bool = False) -> Summary:
    """Commit a batch whose parts are all done.

    Twice at the same time does no harm: both write the same manifest, and one of them the commit. `is_told`: somebody
    downstream has to hear of it.

    Returns:
        What is committed now: this, or what another worker was faster with.

    Raises:
        Incomplete: the parts don't add up to what was downloaded.
        MissingObject: it was committed and tidied up, or begun anew, meanwhile.
    """
    batch, committed = plan.batch, read_summary(bucket, plan.batch)
    if not _may_replace(committed, plan, split):
        return _stays(bucket, committed)
    total, tables = _added_up(bucket, batch, split)
    _join_manifests(bucket, batch, split.parts)
    _place_tables(bucket, batch, tables)
    if committed or bucket.size(layout.strays(batch)) is not None:
        _remove_strays(bucket, batch, split.parts, tables)
    return _commit(bucket, plan, split, total, is_told=is_told)


def close(bucket: Bucket, plan: Plan, *, is_told: bool = False) -> Summary:
    """Commit a batch that failed, expired, or was cancelled with nothing to show. As `finish`."""
    committed = read_summary(bucket, plan.batch)
    if not _may_replace(committed, plan, NO_RESULTS):
        return _stays(bucket, committed)
    # What an output that has disappeared since left half done.
    bucket.delete([name for name, _ in bucket.list(plan.batch) if name != layout.summary(plan.batch)])
    return _commit(bucket, plan, NO_RESULTS, Tally(), is_told=is_told)


def tidy(bucket: Bucket, summary: Summary) -> Summary:
    """After a commit was seen: the copy in `_index/`, and `_work/` removed. Repeats what a crash left undone."""
    name, copy = layout.index(summary.committed_at[:10], summary.batch), summary.encoded()
    if bucket.get(name) != copy:
        bucket.put(name, copy, layout.JSON)
    bucket.delete_tree(layout.work(summary.batch))
    return summary


def _may_replace(committed: Summary | None, plan: Plan, split: Split) -> bool:
    """Whether this is news. What was fetched once more and is the same is none."""
    if committed and plan.refetches == committed.revision and split.raw_sha256 == committed.raw_sha256:
        return False
    return gives_way(committed, plan.state, has_results=bool(split.parts), refetches=plan.refetches)


def _stays(bucket: Bucket, committed: Summary | None) -> Summary:
    if committed is None:
        raise AssertionError("nothing can't stand in the way of a commit")
    return tidy(bucket, committed)


def _added_up(bucket: Bucket, batch: str, split: Split) -> tuple[Tally, list[Piece]]:
    """The sum of all parts, and those of them that became a table."""
    total, tables = Tally(), []
    for piece in split.parts:
        tally = read_tally(bucket, batch, piece)
        if tally is None:
            raise MissingObject(f"{layout.raw_part(piece.number)} is not fanned out any more.")
        if piece.lines != tally.lines:
            raise Incomplete(
                f"{layout.raw_part(piece.number)}: {piece.lines} lines came, {tally.lines} were fanned out."
            )
        total.add(tally)
        if tally.dataset:
            tables.append(piece)
    return total, tables


def _commit(bucket: Bucket, plan: Plan, split: Split, total: Tally, *, is_told: bool) -> Summary:
    """Write `batch.json`, look at it, and only then tidy up."""
    name, standing = layout.summary(plan.batch), bucket.get(layout.summary(plan.batch))
    committed = decode_summary(standing, plan.batch) if standing is not None else None
    if not _may_replace(committed, plan, split):
        return _stays(bucket, committed)
    known = completeness(bucket, plan.batch, split.parts)
    summary = _summary_of(plan, split, total, committed.revision + 1 if committed else 1, known)
    if is_told:
        notices.owe(bucket, plan.batch, summary.revision)
    if committed is None or standing is None:
        bucket.create(name, summary.encoded(), layout.JSON)
    else:
        # First, so that a crash never leaves two copies of one batch: `tidy` brings the new one.
        bucket.delete([layout.index(committed.committed_at[:10], plan.batch)])
        bucket.replace(name, standing, summary.encoded(), layout.JSON)
    seen = read_summary(bucket, plan.batch)
    if seen is None or seen == committed:
        raise BucketUnavailable(f"{name} was written, and is not there; it is written again.")
    return tidy(bucket, seen)


def _summary_of(plan: Plan, split: Split, total: Tally, revision: int, known: Completeness | None) -> Summary:
    counts = Counts(total=total.lines, **total.counts)
    if known:
        counts = replace(counts, missing=known.missing, unasked=known.unasked)
    return Summary(
        batch=plan.batch,
        state=plan.state,
        display_name=plan.display_name,
        model=plan.model,
        created_at=plan.created_at,
        ended_at=plan.ended_at,
        committed_at=datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        revision=revision,
        trigger=plan.trigger,
        counts=counts,
        finish_reasons=dict(sorted(total.finish_reasons.items())),
        model_versions=dict(sorted(total.model_versions.items())),
        usage={field: total.usage.get(field, 0) for field in USAGE_FIELDS},
        cost=cost.estimate(total.billed, plan.model, plan.ended_at or plan.created_at) or msgspec.UNSET,
        batch_stats=plan.batch_stats,
        parts=[PartSummary(layout.raw_part(p.number), p.lines, p.bytes, p.sha256) for p in split.parts],
        raw_bytes=split.raw_bytes,
        raw_sha256=split.raw_sha256,
        error=plan.error,
        user_metadata=plan.user_metadata,
        warnings=[*_warnings(plan, counts, total, len(split.parts)), *(sentences(known) if known else ())],
    )


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
    advice = _ADVICE if plan.state is State.SUCCEEDED else ""
    for field, name, ours in (
        ("requestCount", "requests", counts.total),
        ("successfulRequestCount", "successful requests", counts.succeeded),
        ("failedRequestCount", "failed requests", counts.failed + counts.invalid),
    ):
        theirs = integer(stats.get(field))
        if theirs is not None and theirs != ours:
            lacks = ours < theirs and field != "failedRequestCount"
            yield f"Gemini counts {theirs} {name}, the results hold {ours}.{advice if lacks else ''}"
            advice = "" if lacks else advice
    others = {
        name: count for name, count in total.model_versions.items() if not _is_version_of(name, plan.model)
    }
    for name, count in sorted(others.items()):
        yield f"{count} answers are of {name}, and {plan.model} was asked for."
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


def _is_version_of(name: str, model: str | None) -> bool:
    """Whether answers of this version are what was asked for; a version may be more exact than the request."""
    asked = (model or "").removeprefix("models/")
    return not asked or name.removeprefix("models/").startswith(asked)
