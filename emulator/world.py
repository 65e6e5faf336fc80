"""The whole local Gemini: its parts, and what ties a batch's end to its webhooks."""

from collections import deque
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from emulator.batches import Batches
from emulator.caches import Caches
from emulator.deliveries import Courier
from emulator.events import batch_event
from emulator.faults import Faults
from emulator.files import Files
from emulator.operations import Batch
from emulator.settings import Settings
from emulator.uploads import Uploads
from emulator.webhooks import Webhooks

_REQUESTS_KEPT = 10_000


@dataclass(slots=True)
class Seen:
    """A request to the API. `status` is None while it has no answer."""

    method: str
    path: str
    range: str | None = None
    status: int | None = None


def event_of(batch: Batch) -> dict[str, Any]:
    """What a webhook is told of a batch that ended."""
    output_file = (batch.output or {}).get("responsesFile")
    event = batch_event(batch.id, batch.state, output_file=output_file, error=batch.error)
    return event if batch.user_metadata is None else {**event, "user_metadata": batch.user_metadata}


class World:
    """`folder` takes the files' bytes; all else is in memory."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings = settings
        self._at_start = asdict(settings)
        self.faults = Faults()
        self.files = Files(folder)
        self.uploads = Uploads(self.files, self.faults)
        self.webhooks = Webhooks()
        self.courier = Courier(settings, self.webhooks, self.faults)
        self.caches = Caches()
        self.batches = Batches(settings, self.files, self.caches, self.tell)
        self.requests: deque[Seen] = deque(maxlen=_REQUESTS_KEPT)

    def tell(self, batch: Batch) -> None:
        """Announce a batch's end.

        The addresses that a job names are told instead of the registered webhooks, as the SDK documents
        `WebhookConfig.uris`.
        """
        if batch.uris:
            self.courier.announce_to(batch.uris, event_of(batch))
        else:
            self.courier.announce(event_of(batch))

    async def reset(self) -> None:
        """As after the start, but for the keys of the JWKS."""
        await self.batches.clear()
        await self.courier.clear()
        self.webhooks.clear()
        self.caches.clear()
        self.uploads.clear()
        self.files.clear()
        self.faults.clear()
        self.requests.clear()
        self.settings.change(self._at_start)

    async def close(self) -> None:
        await self.batches.clear()
        await self.courier.close()
