"""`pyarrow.dataset`: the tables of all committed batches in S3, by a list of files.

`python with_pyarrow.py BUCKET/PREFIX`, with the variables of AWS. A folder would not do: it holds `batch.json` too.
"""

import os
import sys

import pyarrow.dataset
from pyarrow import fs


def tables(files: fs.FileSystem, root: str) -> pyarrow.dataset.Dataset:
    names = [
        found.path for found in files.get_file_info(fs.FileSelector(root, recursive=True)) if found.is_file
    ]
    committed = {name.removesuffix("batch.json") for name in names if name.endswith("/batch.json")}
    parts = [
        name for name in names if name.endswith(".parquet") and name.rpartition("dataset/")[0] in committed
    ]
    return pyarrow.dataset.dataset(parts, filesystem=files)


if __name__ == "__main__":
    s3 = fs.S3FileSystem(
        endpoint_override=os.environ.get("AWS_ENDPOINT_URL"), region=os.environ["AWS_REGION"]
    )
    print(tables(s3, sys.argv[1]).count_rows())
