"""A batch as a value, and the long-running operation that it is shown as."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec

from emulator import wire

FINAL = ("SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED")

_TYPE = "type.googleapis.com/google.ai.generativelanguage.v1main."
_ID_LENGTH = 36


def new_batch_id() -> str:
    return wire.new_id(_ID_LENGTH)


@dataclass(slots=True)
class Batch:
    """A job and what became of it.

    `state` is without prefix, `input_file` a name like `files/abc`. `said_at`: where the operation shows the output;
    with `top`, all fields stand at the top and it is no operation. `verbatim`: the whole operation, instead of one made
    from the other fields.
    """

    id: str
    order: int = 0
    model: str = "models/gemini-2.5-flash"
    display_name: str | None = None
    embeddings: bool = False
    input_file: str | None = None
    priority: int | None = None
    state: str = "PENDING"
    created: datetime = field(default_factory=wire.now)
    updated: datetime = field(default_factory=wire.now)
    ended: datetime | None = None
    stats: dict[str, Any] = field(default_factory=dict)
    output: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    uris: list[str] = field(default_factory=list)
    user_metadata: dict[str, Any] | None = None
    said_at: tuple[str, ...] = ("response", "metadata")
    state_prefix: str = "BATCH_STATE_"
    verbatim: bytes | None = None

    @property
    def name(self) -> str:
        return f"batches/{self.id}"

    @property
    def output_file_id(self) -> str:
        """Over the 40 characters that the Files API takes (python-genai #1759)."""
        return f"batch-{self.id}"


def operation(batch: Batch, *, with_output: bool = True, top: bool = False, state: str = "") -> bytes:
    """The long-running operation that a batch is shown as, in JSON.

    `top`: with its fields at the top, whatever it says itself. `state`: another than its own.
    """
    if batch.verbatim is not None:
        return batch.verbatim
    kind = "EmbedContentBatch" if batch.embeddings else "GenerateContentBatch"
    metadata: dict[str, Any] = {
        "@type": _TYPE + kind,
        "model": batch.model,
        "name": batch.name,
        "createTime": wire.timestamp(batch.created),
        "updateTime": wire.timestamp(batch.updated),
        "batchStats": batch.stats,
        "state": batch.state_prefix + (state or batch.state),
    }
    if batch.display_name is not None:
        metadata["displayName"] = batch.display_name
    if batch.input_file is not None:
        metadata["inputConfig"] = {"fileName": batch.input_file}
    if batch.priority is not None:
        metadata["priority"] = str(batch.priority)
    if batch.ended:
        metadata["endTime"] = wire.timestamp(batch.ended)
    output = batch.output if with_output and (not state or state in FINAL) else None
    if top or "top" in batch.said_at:
        told = {name: value for name, value in (("output", output), ("error", batch.error)) if value}
        return json.dumps({**metadata, **told}).encode()
    document: dict[str, Any] = {"name": batch.name, "metadata": metadata}
    if output and "metadata" in batch.said_at:
        metadata["output"] = output
    if (state or batch.state) in FINAL:
        document["done"] = True
    if batch.error:
        document["error"] = batch.error
    elif output and "response" in batch.said_at:
        document["response"] = {"@type": f"{_TYPE}{kind}Output", **output}
    return json.dumps(document).encode()


def counted(total: int, succeeded: int) -> dict[str, str]:
    """A finished batch's `batchStats`: int64 come as strings, and what is zero is left out."""
    counts = {
        "requestCount": total,
        "successfulRequestCount": succeeded,
        "failedRequestCount": total - succeeded,
    }
    return {name: str(count) for name, count in counts.items() if count}


class _ResultLine(msgspec.Struct):
    response: msgspec.Raw = msgspec.Raw()


def count_results(lines: Iterable[bytes]) -> dict[str, str]:
    """`batchStats` of a result file: a line that is not blank and has no `response` is a failed request."""
    decoder = msgspec.json.Decoder(_ResultLine)
    total = succeeded = 0
    for line in lines:
        if not line.strip():
            continue
        total += 1
        try:
            succeeded += bool(bytes(decoder.decode(line).response))
        except (msgspec.MsgspecError, RecursionError):
            continue
    return counted(total, succeeded)
