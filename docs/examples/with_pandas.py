"""s3fs and pandas: the tables of all committed batches, and a manifest.

`python with_pandas.py BUCKET/PREFIX BATCH`, with the variables of AWS.
"""

import sys

import pandas as pd
import s3fs


def tables(files: s3fs.S3FileSystem, root: str) -> pd.DataFrame:
    """Of the batches that have a `batch.json`; what is beside them is not done."""
    committed = [name.removesuffix("batch.json") for name in files.glob(f"{root}/*/batch.json")]
    found = [part for folder in committed for part in files.glob(f"{folder}dataset/*.parquet")]
    return pd.concat([pd.read_parquet(files.open(part)) for part in found], ignore_index=True)


def manifest(files: s3fs.S3FileSystem, root: str, batch: str) -> pd.DataFrame:
    with files.open(f"{root}/{batch}/manifest.jsonl") as lines:
        return pd.read_json(lines, lines=True, dtype={"key": str})


if __name__ == "__main__":
    files = s3fs.S3FileSystem()
    print(len(tables(files, sys.argv[1])))
    for batch in sys.argv[2:]:
        print(len(manifest(files, sys.argv[1], batch)))
