"""Thin events, as webhooks receive them."""

from collections.abc import Mapping
from typing import Any

from emulator import wire


def event(kind: str, data: Mapping[str, Any]) -> dict[str, Any]:
    moment = wire.now().strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"type": kind, "version": "v1", "timestamp": moment, "data": dict(data)}


def batch_event(
    batch_id: str, state: str, *, output_file: str | None = None, error: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """`batch.succeeded` and its like, by the state without its prefix (`SUCCEEDED`, …)."""
    data: dict[str, Any] = {"id": batch_id}
    if output_file:
        data["output_file_uri"] = output_file
    if error:
        data |= {"error_code": str(error.get("code", "")), "error_message": str(error.get("message", ""))}
    return event(f"batch.{state.lower()}", data)


def ping_event(webhook_id: str) -> dict[str, Any]:
    return event("ping", {"webhook_id": webhook_id})
