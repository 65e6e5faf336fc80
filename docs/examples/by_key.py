"""boto3: results by their keys, in the order of the manifest.

`python by_key.py BUCKET PREFIX BATCH`, with the variables of AWS.
"""

import json
import sys
from collections.abc import Iterator
from typing import Any

import boto3


def results(s3: Any, bucket: str, prefix: str, batch: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each key with its document. `object` in the manifest is the name itself: nothing is encoded again."""
    folder = f"{prefix}/{batch}"
    manifest = s3.get_object(Bucket=bucket, Key=f"{folder}/manifest.jsonl")["Body"]
    for line in manifest.iter_lines():
        entry = json.loads(line)
        found = s3.get_object(Bucket=bucket, Key=f"{folder}/{entry['object']}")["Body"]
        yield entry["key"], json.load(found)


if __name__ == "__main__":
    for key, document in results(boto3.client("s3"), *sys.argv[1:]):
        print(json.dumps([key, document["text"]]))
