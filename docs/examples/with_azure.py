"""Azure's SDK: the committed batches of a container, and the results of one.

`python with_azure.py CONTAINER PREFIX BATCH`, with AZURE_STORAGE_CONNECTION_STRING.
"""

import json
import os
import sys
from collections.abc import Iterator
from typing import Any

from azure.storage.blob import ContainerClient


def committed(container: ContainerClient, prefix: str) -> list[str]:
    """The batches that have a `batch.json`, by the index of all days."""
    names = container.list_blob_names(name_starts_with=f"{prefix}/_index/")
    return sorted(name.rpartition("/")[2].removesuffix(".json") for name in names)


def results(container: ContainerClient, prefix: str, batch: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each key with its document. `object` in the manifest is the name itself: nothing is encoded again."""
    manifest = container.download_blob(f"{prefix}/{batch}/manifest.jsonl").readall()
    for line in manifest.splitlines():
        entry = json.loads(line)
        yield (
            entry["key"],
            json.loads(container.download_blob(f"{prefix}/{batch}/{entry['object']}").readall()),
        )


if __name__ == "__main__":
    name, prefix, batch = sys.argv[1:]
    connection = os.environ["AZURE_STORAGE_CONNECTION_STRING"]
    with ContainerClient.from_connection_string(connection, name) as container:
        print(json.dumps(committed(container, prefix)))
        for key, document in results(container, prefix, batch):
            print(json.dumps([key, document["text"]]))
