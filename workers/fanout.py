"""The fan-out of one raw part: what `OUTPUTS` asks for of each line, media beside it, and the part's own manifest.

Run twice, it writes the same bytes. Its `done` marker is written last, after all that it stands for.
"""

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import msgspec

from workers import notes
from workers.bucket import layout
from workers.bucket.protocol import Bucket, MissingObject, OutputSink, Writer
from workers.errors import Incomplete, SettingsError
from workers.parts import Part, Piece, forget_split, note_strays, read_part
from workers.plan import read_plan
from workers.results.documents import manifest_line
from workers.results.lines import lines
from workers.results.result import Rendered, oversized, parse, render
from workers.results.tally import Tally, tally_of

if TYPE_CHECKING:
    from workers.dataset import Table

# Of raw lines. To count results and write their entries costs as much for one as for many.
_GROUP_BYTES = 256 << 10


_tally = msgspec.json.Decoder(Tally)


def read_tally(bucket: Bucket, batch: str, piece: Piece) -> Tally | None:
    """What a done part adds up to; None while it is not done."""
    return notes.read(bucket, layout.done(batch, piece.number, piece.sha256), _tally)


def prepare(outputs: frozenset[str]) -> None:
    """Load what the outputs need, so that no job has to.

    Raises:
        SettingsError: `parquet` is asked for and pyarrow is not installed.
    """
    if "parquet" not in outputs:
        return
    try:
        import workers.dataset  # noqa: F401, PLC0415 - pyarrow is an extra
    except ImportError:
        raise SettingsError(
            "OUTPUTS asks for parquet, which needs pyarrow: pip install 'batch-receiver[parquet]'."
        ) from None


def fan_out(bucket: Bucket, batch: str, part: Part, outputs: frozenset[str]) -> Tally:
    """Write one part's outputs, media, table and manifest, unless that was done before.

    Raises:
        Incomplete: the raw part is not the one that the splitter stored.
        MissingObject: the batch was committed, or begun anew, meanwhile.
        Transient, Permanent: from the bucket.
    """
    tally = read_tally(bucket, batch, part)
    if tally is not None:
        return tally
    if part.outputs and outputs.symmetric_difference(part.outputs):
        note_strays(bucket, batch, "OUTPUTS was changed")
    raw = _Checked(bucket.read(layout.inside(batch, layout.raw_part(part.number))))
    with (
        bucket.group() as together,
        together.writer(layout.part_manifest(batch, part.number, part.sha256), layout.JSON_LINES) as manifest,
        _table(together, batch, part, outputs) as table,
        together.outputs(batch) as sink,
    ):
        tally = _write(raw, part, sink, manifest, table, objects="objects" in outputs)
        if raw.sha256 != part.sha256 or tally.lines != part.lines:
            forget_split(bucket, batch, part.number)
            raise Incomplete(f"{layout.raw_part(part.number)} is not what was downloaded; replay the batch.")
    now = read_part(bucket, batch, part.number)
    if now is not None and now.sha256 != part.sha256:
        # Begun anew from another source meanwhile: what was just written may stand over newer outputs.
        bucket.delete_tree(layout.done_parts(batch))
        raise MissingObject(f"{layout.raw_part(part.number)} was replaced while it was fanned out.")
    notes.write(bucket, layout.done(batch, part.number, part.sha256), tally)
    return tally


def _table(
    bucket: Bucket, batch: str, part: Part, outputs: frozenset[str]
) -> "AbstractContextManager[Table | None]":
    if "parquet" not in outputs:
        return nullcontext()
    from workers.dataset import open_table  # noqa: PLC0415 - pyarrow is an extra

    plan = read_plan(bucket, batch)
    if plan is None:
        raise MissingObject(f"{layout.plan(batch)} is gone: the batch was committed meanwhile.")
    return open_table(bucket, plan, part)


def _write(
    raw: Iterable[bytes],
    part: Part,
    sink: OutputSink,
    manifest: Writer,
    table: "Table | None",
    *,
    objects: bool,
) -> Tally:
    name = layout.raw_part(part.number)
    total = Tally(repeated=len(part.occurrences), dataset=int(table is not None))
    group: list[Rendered] = []
    entries: list[bytes] = []
    place = size = 0
    for line in lines(raw):
        if line.blank:
            continue
        parsed = parse(line.data, known_utf8=part.utf8) if line.data is not None else oversized()
        rendered = render(parsed, part.first_index + place, part.occurrences.get(place, 1))
        place += 1
        for medium in rendered.media:
            sink.put(medium.object_name, medium.data, medium.mime_type)
        if objects:
            sink.put(rendered.object_name, rendered.document, layout.JSON)
        if table is not None:
            table.add(rendered, line.offset, line.length)
        group.append(rendered)
        entries.append(manifest_line(rendered, name, line.offset, line.length, has_object=objects))
        size += line.length
        if size >= _GROUP_BYTES:
            total.add(tally_of(group))
            manifest.write(b"".join(entries))
            group, entries, size = [], [], 0
    total.add(tally_of(group))
    manifest.write(b"".join(entries))
    return total


class _Checked:
    """Chunks that are hashed as they pass."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._content = hashlib.sha256()

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._chunks:
            self._content.update(chunk)
            yield chunk

    @property
    def sha256(self) -> str:
        return self._content.hexdigest()
