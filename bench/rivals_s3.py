"""Our puts to S3 alone, and what people would use instead. Each is run as a process of its own and prints what it took.

Importing does not count: of ours too it is done before, as in workers.

`python -m bench.rivals_s3 NAME PACK PREFIX PROCESSES THREADS`, with the endpoint and credentials in the environment.
"""

import os
import sys
import time
from pathlib import Path

import boto3
import obstore
from botocore.config import Config
from obstore.store import S3Store

from bench.data import read_pack
from bench.rivals import Documents, in_processes, in_threads
from workers.bucket.objectstore import ObjectStore

_TYPE = "application/json"


def our_puts(documents: Documents, bucket: str, prefix: str, threads: int) -> None:
    """As the fan-out stores its outputs."""
    folder, _, name = prefix.rpartition("/")
    ours = ObjectStore(f"s3://{bucket}/{folder}".rstrip("/"), os.environ, concurrency=threads)
    with ours.outputs(name) as sink:
        for each, data in documents:
            sink.put(each, data, _TYPE)


def obstore_puts(documents: Documents, bucket: str, prefix: str, threads: int) -> None:
    """The product's own puts, with nothing around them."""
    store = S3Store(
        bucket,
        prefix=prefix,
        client_options={"allow_http": True, "pool_max_idle_per_host": str(threads)},
    )

    def write(share: Documents) -> None:
        for name, data in share:
            obstore.put(store, name, data, attributes={"Content-Type": _TYPE}, use_multipart=False)

    in_threads(write, documents, threads)


def boto3_puts(documents: Documents, bucket: str, prefix: str, threads: int) -> None:
    """One client for all threads, with a connection for each."""
    client = boto3.client("s3", config=Config(max_pool_connections=max(threads, 10)))

    def write(share: Documents) -> None:
        for name, data in share:
            client.put_object(Bucket=bucket, Key=f"{prefix}/{name}", Body=data, ContentType=_TYPE)

    in_threads(write, documents, threads)


def main(name: str, pack: str, url: str, processes: str, threads: str) -> None:
    documents = read_pack(Path(pack))
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    put = {"our_puts": our_puts, "obstore_puts": obstore_puts, "boto3_puts": boto3_puts}[name]
    os.environ.setdefault("AWS_DEFAULT_REGION", os.environ["AWS_REGION"])
    began = time.perf_counter()
    in_processes(lambda share: put(share, bucket, prefix, int(threads)), documents, int(processes))
    print(time.perf_counter() - began)


if __name__ == "__main__":
    main(*sys.argv[1:])
