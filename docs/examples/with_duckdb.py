"""DuckDB: a query over the tables of all committed batches.

`python with_duckdb.py BUCKET/PREFIX`, with the variables of AWS. s3fs does the reading, so no extension is fetched.
"""

import sys
from typing import Any

import duckdb
import s3fs


def counts(root: str) -> list[Any]:
    """How many results of each status there are, over all committed batches."""
    files = s3fs.S3FileSystem()
    folders = [name.removesuffix("batch.json") for name in files.glob(f"{root}/*/batch.json")]
    tables = [f"s3://{part}" for folder in folders for part in files.glob(f"{folder}dataset/*.parquet")]
    with duckdb.connect() as connection:
        connection.register_filesystem(files)
        query = "select status, count(*) from read_parquet(?) group by all order by all"
        return list(connection.execute(query, [tables]).fetchall())


if __name__ == "__main__":
    print(sum(count for _, count in counts(sys.argv[1])))
