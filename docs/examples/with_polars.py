"""Polars: the tables of one batch, or of all that are committed, straight from S3.

`python with_polars.py BUCKET/PREFIX BATCH…`, with the variables of AWS.
"""

import os
import sys
from collections.abc import Iterable

import polars as pl


def tables(root: str, batches: Iterable[str]) -> pl.LazyFrame:
    """`batches`: those that have a `batch.json`."""
    options = {
        name.lower(): value
        for name, value in os.environ.items()
        if name in {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_ENDPOINT_URL"}
    }
    options["aws_allow_http"] = str(options.get("aws_endpoint_url", "").startswith("http://")).lower()
    return pl.scan_parquet(
        [f"s3://{root}/{batch}/dataset/*.parquet" for batch in batches], storage_options=options
    )


if __name__ == "__main__":
    print(tables(sys.argv[1], sys.argv[2:]).select(pl.len()).collect().item())
