"""The output of one key, without the manifest: its name is made as `docs/bucket.md` says.

`python odd_keys.py BUCKET PREFIX BATCH KEY`, with the variables of AWS.
"""

import hashlib
import json
import sys
import urllib.parse

import boto3


def name_of(key: str) -> str:
    """Of the first result with this key."""
    name = urllib.parse.quote(key, safe="")
    if name[0] in "._":
        name = f"%{ord(name[0]):02X}{name[1:]}"
    if name[-1] == ".":
        name = f"{name[:-1]}%2E"
    if len(name) <= 200:
        return name
    kept = name[:160]
    cut = kept.rfind("%", 158)
    return f"{kept[:cut] if cut >= 0 else kept}@{hashlib.sha256(key.encode()).hexdigest()[:32]}"


if __name__ == "__main__":
    bucket, prefix, batch, key = sys.argv[1:]
    name = f"{prefix}/{batch}/outputs/{name_of(key)}.json"
    print(json.load(boto3.client("s3").get_object(Bucket=bucket, Key=name)["Body"])["text"])
