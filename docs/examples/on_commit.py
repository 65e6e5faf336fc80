"""The bucket's own notification: a function that S3 calls when an object is created, with the suffix `/batch.json`.

The same event comes through SQS, SNS and, from other servers, through a webhook.
"""

import urllib.parse
from typing import Any, NamedTuple


class Committed(NamedTuple):
    bucket: str
    prefix: str
    batch: str


def committed(event: dict[str, Any]) -> list[Committed]:
    """The batches that an event tells of. It may come twice, and again for a new revision: look at `batch.json`.

    Keys in an event are encoded as in a form, unlike anywhere else.
    """
    found = []
    for record in event.get("Records", []):
        key = urllib.parse.unquote_plus(record["s3"]["object"]["key"])
        folder, _, name = key.rpartition("/")
        prefix, _, batch = folder.rpartition("/")
        # Of a batch that is called `batch`, the copy in `_index/` has such a name too.
        if name == "batch.json" and prefix.rpartition("/")[2] != "_index":
            found.append(Committed(record["s3"]["bucket"]["name"], prefix, batch))
    return found


def handler(event: dict[str, Any], _: object) -> None:
    """What AWS Lambda calls."""
    for each in committed(event):
        print(f"s3://{each.bucket}/{each.prefix}/{each.batch}/ is done")
