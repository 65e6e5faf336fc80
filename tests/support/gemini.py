"""The emulator as a process, and its control API for tests (described in `emulator.control`)."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.processes import Process
from tests.support.waiting import PATIENCE_SECONDS, wait_until

API_KEY = "test-key"


class Gemini:
    """A local Gemini that accepts `api_key` at `url`; `options` go to `batch-receiver emulator`."""

    def __init__(self, log: Path, *options: str, api_key: str = API_KEY, before: str = "") -> None:
        self.api_key = api_key
        command = ["emulator", "--port", "0", "--api-key", api_key, *options]
        self.process = Process(command, {}, log, before=before)
        try:
            self.url = self.process.wait_for_output(r"listening on (http://\S+)")[1]
        except BaseException:
            self.process.kill()
            raise
        headers = {"x-goog-api-key": api_key}
        self.http = httpx.Client(base_url=self.url, headers=headers, timeout=60, trust_env=False)

    def close(self) -> None:
        self.http.close()
        self.process.stop()

    @property
    def env(self) -> dict[str, str]:
        """What workers and the registration need to find it."""
        return {"GEMINI_API_KEY": self.api_key, "GOOGLE_GEMINI_BASE_URL": self.url}

    @property
    def jwks_url(self) -> str:
        return f"{self.url}/.well-known/jwks.json"

    def put_batch(
        self,
        lines: bytes | Iterable[bytes],
        *,
        batch_id: str | None = None,
        state: str = "SUCCEEDED",
        stats: Mapping[str, str] | None = None,
        error: Mapping[str, Any] | None = None,
        uris: list[str] | None = None,
        user_metadata: Any = None,
        **options: str,
    ) -> str:
        """A finished batch whose result file is exactly `lines`; its id.

        Other `options`: model, display_name, said_at, spelling, state_prefix, created, ended.
        """
        documents = {"stats": stats, "error": error, "uris": uris, "user_metadata": user_metadata}
        query = {name: json.dumps(value) for name, value in documents.items() if value is not None}
        query |= {"state": state, **options}
        if batch_id is not None:
            query["id"] = batch_id
        return str(self._control("POST", "batches", params=query, content=lines)["id"])

    def put_operation(
        self,
        operation: Mapping[str, Any] | bytes,
        *,
        batch_id: str | None = None,
        state: str = "SUCCEEDED",
    ) -> str:
        """A batch shown as exactly this operation; its id, which is the operation's own unless given.

        `state`, without prefix, is what its announcement says.
        """
        if not isinstance(operation, bytes):
            batch_id = batch_id or str(operation["name"]).removeprefix("batches/")
            operation = json.dumps(operation).encode()
        query = {"state": state} | ({"id": batch_id} if batch_id else {})
        return str(self._control("POST", "operations", params=query, content=operation)["id"])

    def change(
        self, batch_id: str, state: str, *, error: Mapping[str, Any] | None = None, announce: bool = False
    ) -> None:
        """Bring a batch into another state; `announce` also tells the webhooks."""
        body = {"state": state, "error": error, "announce": announce}
        self._control("PATCH", f"batches/{batch_id}", json=body)

    def expire_output(self, batch_id: str) -> None:
        """From now on the batch's result file is 404."""
        self._control("DELETE", f"batches/{batch_id}/output")

    def announce(self, batch_id: str, *, times: int = 1, kind: str = "v1", **options: Any) -> list[str]:
        """Tell webhooks about a batch, known or not; the ids of the deliveries.

        `kind`: `v1` to every subscribed webhook, `v1a` or `jwt` to `uris` (or the batch's, or all webhooks').
        Other `options`: uris, type, data, user_metadata, audience, event.
        """
        body = {"times": times, "kind": kind, **options}
        answer = self._control("POST", f"batches/{batch_id}:announce", json=body)
        return [str(delivery) for delivery in answer["deliveries"]]

    def deliveries(self) -> list[dict[str, Any]]:
        """All so far: id, url, signature, event, webhook, state and attempts of each."""
        found: list[dict[str, Any]] = self._control("GET", "deliveries")["deliveries"]
        return found

    def wait_for_deliveries(
        self, ids: Iterable[str], seconds: float = PATIENCE_SECONDS
    ) -> list[dict[str, Any]]:
        """The deliveries of these ids, once none of them is pending."""
        wanted = set(ids)

        def settled() -> list[dict[str, Any]]:
            found = [each for each in self.deliveries() if each["id"] in wanted]
            return [] if any(each["state"] == "pending" for each in found) else found

        return wait_until(settled, seconds=seconds, what=f"the end of deliveries {sorted(wanted)}")

    def requests(self, path: str = "") -> list[dict[str, Any]]:
        """The API requests so far with `path` in their path: method, path, range and status of each."""
        found: list[dict[str, Any]] = self._control("GET", "requests")["requests"]
        return [each for each in found if path in each["path"]]

    def fault(
        self,
        kind: str,
        match: str = "",
        *,
        times: int = 1,
        value: float = 0,
        text: str = "",
        retry_after: str | None = None,
    ) -> None:
        """Ask for trouble (kinds in `emulator.faults`); `times=0` is for good."""
        body = {
            "kind": kind,
            "match": match,
            "times": times,
            "value": value,
            "text": text,
            "retry_after": retry_after,
        }
        self._control("POST", "faults", json=body)

    def clear_faults(self) -> None:
        self._control("DELETE", "faults")

    def set(self, **settings: Any) -> None:
        """Change settings of `emulator.settings`, such as `batch_seconds` or `give_up_seconds`."""
        self._control("PATCH", "settings", json=settings)

    def rotate_keys(self) -> None:
        """Other keys in the JWKS."""
        self._control("POST", "keys:rotate")

    def reset(self) -> None:
        """As after the start: no batches, files, webhooks, deliveries or faults, and the first settings."""
        self._control("POST", "reset")

    def is_running(self) -> bool:
        return self.process._popen.poll() is None

    def peak_memory_bytes(self) -> int:
        """The most physical memory that the process ever used."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024

    def create_webhook(self, uri: str, *events: str) -> dict[str, Any]:
        """A webhook for these events (default: the batch events), with its `new_signing_secret`."""
        chosen = list(events) or ["batch.succeeded", "batch.failed", "batch.expired"]
        answer = self.http.post("/v1beta/webhooks", json={"uri": uri, "subscribed_events": chosen})
        webhook: dict[str, Any] = answer.raise_for_status().json()
        return webhook

    def _control(self, method: str, path: str, **arguments: Any) -> dict[str, Any]:
        answer = self.http.request(method, f"/_emulator/{path}", **arguments)
        assert answer.is_success, answer.text
        document: dict[str, Any] = answer.json()
        return document


_SHARED = pytest.StashKey[Gemini]()


@pytest.fixture
def gemini(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Gemini:
    """A local Gemini with nothing in it, whose batches end almost at once.

    One process serves the whole session; a test may end it, the next one then gets another.
    """
    stash = request.session.stash
    server = stash.get(_SHARED, None)
    if server is None or not server.is_running():
        server = Gemini(tmp_path_factory.mktemp("gemini") / "emulator.log", "--seconds", "0.1")
        request.session.addfinalizer(server.close)
        stash[_SHARED] = server
    server.reset()
    return server
