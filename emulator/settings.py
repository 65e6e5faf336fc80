"""What can be adjusted on the emulator: at its start, and while it runs through the control API."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from emulator.errors import bad_request


@dataclass(slots=True)
class Settings:
    """All times in seconds.

    `api_key`: the only key accepted, None for any that is not empty. `batch_seconds`: from creation to end of a batch.
    `batch_limit`: how many may be unfinished at once (Gemini: 100), None for any number. `retry_first_seconds`,
    `retry_max_seconds`: the first and the longest pause between two attempts of a delivery. `give_up_seconds`: after
    that long a delivery is given up and its webhook disabled (Gemini: 24 hours). `dynamic_signature`: `v1a` (observed)
    or `jwt` (documented). `audience`: the `aud` of a JWT, None for the address that it is sent to.
    """

    api_key: str | None = None
    batch_seconds: float = 1.0
    batch_limit: int | None = None
    retry_first_seconds: float = 0.1
    retry_max_seconds: float = 5.0
    give_up_seconds: float = 86_400.0
    delivery_timeout_seconds: float = 10.0
    dynamic_signature: str = "v1a"
    audience: str | None = None

    def change(self, changes: Mapping[str, Any]) -> None:
        """Raises ApiError (400) for a name that is no setting."""
        unknown = changes.keys() - {each.name for each in fields(self)}
        if unknown:
            raise bad_request(f"No such setting: {', '.join(sorted(unknown))}.")
        for name, value in changes.items():
            setattr(self, name, value)
