"""The tables of `dataset/`, read again: whole, with the rows of their raw part and of no other."""

import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from workers.bucket import layout
from workers.bucket.protocol import Bucket, MissingObject
from workers.errors import SettingsError

_MAGIC = b"PAR1"
_AT_ONCE = 4
_ROWS_AT_ONCE = 1024
_OF_THE_PART = ("index", "raw_part", "batch")


class Table(NamedTuple):
    """A table of a batch: its object, the raw part that it stands for, that part's first index and its lines."""

    batch: str
    object: str
    raw_part: str
    first: int
    rows: int

    @property
    def name(self) -> str:
        """In the bucket."""
        return layout.inside(self.batch, self.object)


def is_whole(bucket: Bucket, table: Table, size: int) -> bool:
    """Whether it begins and ends as Parquet does: what was cut short has no end."""
    mark = len(_MAGIC)
    if size < 2 * mark:
        return False
    begin = next(bucket.read(table.name, chunk=mark), b"")
    end = next(bucket.read(table.name, chunk=mark, start=size - mark), b"")
    return begin == end == _MAGIC


def wrong_in(bucket: Bucket, tables: Sequence[Table]) -> Iterator[tuple[Table, str | None]]:
    """Each table, and what is wrong with its content.

    Raises:
        SettingsError: pyarrow is not installed.
        Transient, Permanent: from the bucket.
    """
    try:
        import pyarrow.parquet  # noqa: F401, PLC0415 - an extra
    except ImportError:
        raise SettingsError(
            "To read the tables of a batch takes pyarrow: pip install 'batch-receiver[parquet]', or use --quick."
        ) from None
    with ThreadPoolExecutor(min(bucket.concurrency, _AT_ONCE), "verify") as threads:
        yield from zip(tables, threads.map(lambda table: _wrong(bucket, table), tables), strict=True)


def _wrong(bucket: Bucket, table: Table) -> str | None:
    import pyarrow as pa  # noqa: PLC0415 - an extra
    from pyarrow import parquet  # noqa: PLC0415

    with tempfile.TemporaryFile() as file:
        try:
            for chunk in bucket.read(table.name):
                file.write(chunk)
        except MissingObject:
            return None  # Said where objects are held against each other.
        try:
            opened = parquet.ParquetFile(file, page_checksum_verification=True)
            return _wrong_rows(opened, table)
        except (pa.ArrowException, OSError) as error:
            return f"can't be read: {str(error).splitlines()[0]}"


def _wrong_rows(opened: Any, table: Table) -> str | None:
    import pyarrow as pa  # noqa: PLC0415 - an extra
    from pyarrow import compute  # noqa: PLC0415

    if absent := [name for name in _OF_THE_PART if name not in opened.schema_arrow.names]:
        return f"has no column {absent[0]}"
    if opened.metadata.num_rows != table.rows:
        return f"has {opened.metadata.num_rows} rows instead of {table.rows}"
    index = table.first
    for rows in opened.iter_batches(_ROWS_AT_ONCE, use_threads=False):
        for name, value in (("batch", table.batch), ("raw_part", table.raw_part)):
            if not compute.all(compute.equal(rows[name], value)).as_py():
                return f"holds rows of another {name} than {value}"
        if not rows["index"].equals(pa.array(range(index, index + len(rows)), pa.int64())):
            return f"holds other results than {table.first} to {table.first + table.rows - 1}"
        index += len(rows)
    return None
