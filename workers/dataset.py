"""The results as a table: one Parquet file for each raw part, with the same columns whatever the batch.

It loads pyarrow, an extra: import it only where `parquet` is asked for.
"""

import math
from array import array
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import accumulate, chain

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
from msgspec.structs import astuple

from workers.bucket import layout
from workers.bucket.protocol import Bucket, Writer
from workers.parts import Piece
from workers.plan import Plan
from workers.results.answers import USAGE_FIELDS, Usage
from workers.results.result import Rendered

# "element" is the Parquet format's own name for what a list holds; Arrow's would be "item".
_EMBEDDING = pa.list_(pa.field("element", pa.float32()))
_NAMES = pa.list_(pa.field("element", pa.string()))

SCHEMA = pa.schema(
    {
        "key": pa.string(),
        "index": pa.int64(),
        "status": pa.string(),
        "text": pa.string(),
        "finish_reason": pa.string(),
        "block_reason": pa.string(),
        "prompt_tokens": pa.int64(),
        "cached_tokens": pa.int64(),
        "output_tokens": pa.int64(),
        "thoughts_tokens": pa.int64(),
        "total_tokens": pa.int64(),
        "error_code": pa.int32(),
        "error_message": pa.string(),
        "embedding": _EMBEDDING,
        "media": _NAMES,
        "raw_part": pa.string(),
        "raw_offset": pa.int64(),
        "raw_length": pa.int64(),
        "batch": pa.string(),
        "model": pa.string(),
        "display_name": pa.string(),
        "response": pa.string(),
        "tool_use_tokens": pa.int64(),
    }
)
"""The columns of every dataset, in their order, all of them nullable. New ones come last."""

_REPEATING = (
    "status",
    "finish_reason",
    "block_reason",
    "error_code",
    "error_message",
    "raw_part",
    "batch",
    "model",
    "display_name",
)
_ORDERED = ("key", "index", *_REPEATING, "total_tokens", "raw_offset")

# What readers agree on, and what does not depend on the defaults of the pyarrow that happens to be installed.
_FORMAT = {
    "version": "2.6",
    "data_page_version": "1.0",
    "compression": "zstd",
    "compression_level": 1,
    "use_dictionary": list(_REPEATING),
    "write_statistics": list(_ORDERED),
    "store_schema": False,
    # A flipped bit is found by whoever checks, as `verify` does.
    "write_page_checksum": True,
}

_GROUP_BYTES = 8 << 20
_ROW_BYTES = 1 << 10  # What a row's objects take in memory besides its text.
_WRITE_BYTES = 1 << 20
_EMBEDDING_BYTES = 4 << 20
_INT32_MAX = 2**31 - 1
_NO_USAGE = Usage()

_decode_embedding = msgspec.json.Decoder(list[float]).decode


@contextmanager
def open_table(bucket: Bucket, plan: Plan, piece: Piece) -> Iterator["Table"]:
    """The staged table of one part: there once the block has ended without an error, else not at all.

    The same results give the same bytes, as long as pyarrow is the same.

    Raises:
        Transient, Permanent: from the bucket.
    """
    name = layout.staged_dataset(plan.batch, piece.number, piece.sha256)
    with (
        bucket.writer(name, layout.PARQUET) as writer,
        # Each write to Python waits for the interpreter's lock: few large ones.
        pa.BufferedOutputStream(pa.PythonFile(_Output(writer), mode="w"), _WRITE_BYTES) as output,
        pq.ParquetWriter(output, SCHEMA, **_FORMAT) as file,
        ThreadPoolExecutor(1, "dataset") as encoder,
    ):
        table = Table(file, encoder, plan, layout.raw_part(piece.number))
        yield table
        table.end()


class Table:
    """Takes results in the order of their lines. Whenever 8 MiB are together, a thread writes them as a row group.

    Encoding and compressing take about as long as parsing and do not hold the interpreter's lock.
    """

    def __init__(self, file: pq.ParquetWriter, encoder: Executor, plan: Plan, raw_part: str) -> None:
        self._file = file
        self._encoder = encoder
        self._constant = {
            "raw_part": raw_part,
            "batch": plan.batch,
            "model": plan.model,
            "display_name": plan.display_name,
        }
        self._results: list[Rendered] = []
        self._offsets: list[int] = []
        self._lengths: list[int] = []
        self._bytes = 0
        self._written: Future[None] | None = None

    def add(self, rendered: Rendered, offset: int, length: int) -> None:
        """Add the result whose line starts at byte `offset` of its raw part and is `length` bytes long.

        Raises:
            Transient, Permanent: from the bucket, of an earlier row group.
        """
        self._results.append(rendered)
        self._offsets.append(offset)
        self._lengths.append(length)
        self._bytes += _ROW_BYTES + length
        if self._bytes >= _GROUP_BYTES:
            self._hand_over()

    def end(self) -> None:
        """Wait until all is written. Raises like `add`."""
        if self._results:
            self._hand_over()
        if self._written:
            self._written.result()

    def _hand_over(self) -> None:
        group = self._group()
        self._results, self._offsets, self._lengths, self._bytes = [], [], [], 0
        if self._written:
            self._written.result()
        self._written = self._encoder.submit(self._file.write_batch, group, row_group_size=group.num_rows)

    def _group(self) -> pa.RecordBatch:
        results = self._results
        usages = [result.usage or _NO_USAGE for result in results]
        values: dict[str, Sequence[object]] = {
            **{name: [getattr(result, name) for result in results] for name in _AS_RENDERED},
            **dict(zip(USAGE_FIELDS, zip(*map(astuple, usages), strict=True), strict=True)),
            "text": [result.text if result.texts else None for result in results],
            "error_code": [_int32(result.error_code) if result.error else None for result in results],
            "error_message": [result.error_message if result.error else None for result in results],
            "media": [[entry.object for entry in result.entries if entry.object] for result in results],
            "raw_offset": self._offsets,
            "raw_length": self._lengths,
        }
        arrays = {name: pa.array(column, SCHEMA.field(name).type) for name, column in values.items()}
        arrays |= {
            name: pa.repeat(pa.scalar(value, pa.string()), len(results))
            for name, value in self._constant.items()
        }
        arrays["embedding"] = _lists([_floats(result.embedding) for result in results])
        arrays["response"] = _strings([result.pieces for result in results])
        return pa.record_batch([arrays[name] for name in SCHEMA.names], schema=SCHEMA)


_AS_RENDERED = ("key", "index", "status", "finish_reason", "block_reason")


def _strings(texts: Sequence[Sequence[memoryview | bytes]]) -> pa.StringArray:
    """Strings out of the pieces of each one's UTF-8, which nobody need check again; null where there are none."""
    ends = array("i", accumulate((sum(map(len, pieces)) for pieces in texts), initial=0))
    return pa.StringArray.from_buffers(
        len(texts),
        pa.py_buffer(ends),
        pa.py_buffer(b"".join(chain.from_iterable(texts))),
        pa.array(map(bool, texts), pa.bool_()).buffers()[1],
    )


def _lists(embeddings: Sequence["array[float] | None"]) -> pa.ListArray:
    """Lists of float32 from their buffers. pyarrow would make a Python number of every value first."""
    ends = array("i", [0])
    values = array("f")
    for embedding in embeddings:
        if embedding:
            values += embedding
        ends.append(len(values))
    return pa.ListArray.from_arrays(
        pa.Array.from_buffers(pa.int32(), len(ends), [None, pa.py_buffer(ends)]),
        pa.Array.from_buffers(pa.float32(), len(values), [None, pa.py_buffer(values)]),
        type=_EMBEDDING,
        mask=pa.array([embedding is None for embedding in embeddings], pa.bool_()),
    )


def _floats(raw: msgspec.Raw | None) -> "array[float] | None":
    if raw is None or len(raw) > _EMBEDDING_BYTES:
        return None
    try:
        values = array("f", _decode_embedding(raw))
    except ValueError:
        return None
    # What is too large for float32 has become infinite, and a sum of finite float32 cannot: Python adds in float64.
    return values if math.isfinite(sum(values)) else None


def _int32(number: int | None) -> int | None:
    return number if number is not None and -_INT32_MAX <= number <= _INT32_MAX else None


class _Output:
    """The file that pyarrow wants, over a bucket's writer."""

    closed = False

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._position = 0

    def write(self, data: bytes) -> int:
        self._writer.write(data)
        self._position += len(data)
        return len(data)

    def tell(self) -> int:
        return self._position

    def flush(self) -> None:
        """Nothing: the bucket's writer is the one to end the object."""

    def close(self) -> None:
        self.closed = True
