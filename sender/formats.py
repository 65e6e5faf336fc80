"""Rows as files: JSON lines, CSV, Parquet, or the texts alone. A row at a time; of Parquet a group of rows."""

import csv
import io
import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import IO, Any

import msgspec

from sender.columns import COLUMNS, Kind
from workers.errors import SettingsError

FORMATS = ("jsonl", "csv", "parquet", "text")
_GROUP = 10_000

Row = Mapping[str, Any]


def write(name: str, rows: Iterable[Row], columns: list[str], out: IO[bytes]) -> None:
    """Write rows, each with a value for every column.

    Raises:
        SettingsError: it is Parquet, and there is no pyarrow.
        OSError: it can't be written.
    """
    _WRITERS[name](rows, columns, out)


def _jsonl(rows: Iterable[Row], columns: list[str], out: IO[bytes]) -> None:
    del columns
    for row in rows:
        found = {name: value for name, value in row.items() if value is not None or name != "embedding"}
        out.write(msgspec.json.encode(found) + b"\n")


def _csv(rows: Iterable[Row], columns: list[str], out: IO[bytes]) -> None:
    text = io.TextIOWrapper(out, encoding="utf-8", newline="", write_through=True)
    writer = csv.writer(text)
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_cell(row[name]) for name in columns])
    text.flush()
    text.detach()


def _cell(value: Any) -> Any:
    if value is None or isinstance(value, str | int | float):
        return value
    return msgspec.json.encode(value).decode()


def _parquet(rows: Iterable[Row], columns: list[str], out: IO[bytes]) -> None:
    try:
        import pyarrow as pa  # noqa: PLC0415 - an extra
        import pyarrow.parquet as pq  # noqa: PLC0415
    except ImportError:
        raise SettingsError("Parquet needs pyarrow: pip install 'batch-receiver[parquet]'.") from None
    types = {Kind.NUMBER: pa.int64(), Kind.NUMBERS: pa.list_(pa.float32())}
    schema = pa.schema(
        (name, types.get(COLUMNS[name].kind, pa.string()) if name in COLUMNS else pa.string())
        for name in columns
    )
    with pq.ParquetWriter(out, schema, compression="zstd", write_page_checksum=True) as writer:
        for group in _groups(rows):
            data = [[_value(row[name], name) for row in group] for name in columns]
            arrays = [pa.array(each, field.type) for each, field in zip(data, schema, strict=True)]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))


def _value(value: Any, name: str) -> Any:
    """As the column's type has it: JSON is text, and so are the fields of structured answers."""
    kind = COLUMNS[name].kind if name in COLUMNS else Kind.JSON
    if kind in {Kind.NUMBER, Kind.NUMBERS} or value is None or isinstance(value, str):
        return value
    return msgspec.json.encode(value).decode()


def _groups(rows: Iterable[Row]) -> Iterator[list[Row]]:
    each = iter(rows)
    while group := list(itertools.islice(each, _GROUP)):
        yield group


def _text(rows: Iterable[Row], columns: list[str], out: IO[bytes]) -> None:
    del columns
    for row in rows:
        if row["text"] is not None:
            out.write(str(row["text"]).encode(errors="surrogatepass") + b"\n")


_WRITERS = {"jsonl": _jsonl, "csv": _csv, "parquet": _parquet, "text": _text}
