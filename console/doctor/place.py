"""The deployment as it is seen from here: its settings, and what answers at the addresses in them."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx
from redis import Redis

from console.doctor.fact import CannotTell, Fact
from console.redis_connection import connect
from workers.contract import Queues
from workers.contract import settings as declared
from workers.contract.setting.reading import PROJECT, Setting, WrongSetting
from workers.contract.settings import SETTINGS
from workers.gemini.access import Access, Secret
from workers.gemini.batches import Batch
from workers.gemini.client import Gemini
from workers.gemini.http import Limits
from workers.gemini.webhooks import Webhook, same_url, signs_with

T = TypeVar("T")

NO_KEY = "No API key here: run it where `batch-receiver work` runs, too."
_LIMITS = Limits(connect=5, read=10, total=15, batch_read=10, batch_total=15)
_BATCHES = 100
_WEBHOOKS = 500
_LEAST_SECRET = 4
# What clouds' own variables keep secret.
_OTHER_SECRETS = ("SECRET", "TOKEN", "PASSWORD", "ACCESS_KEY", "ACCOUNT_KEY", "SAS", "CREDENTIAL")


class Place:
    """Facts that several checks share. `url` is the public address where somebody has said it."""

    def __init__(self, environment: Mapping[str, str], folder: Path, url: str | None = None) -> None:
        self.environment = environment
        self.folder = folder
        self.url = url
        self.redis = Fact("redis", self._redis)
        self.info: Fact[dict[str, Any]] = Fact("redis", lambda: self.redis.found().info())
        self.secrets = Fact("settings", self._secrets)
        self.batches = Fact("api key", self._batches)
        self.webhooks = Fact("api key", self._webhooks)
        self._lock = threading.Lock()
        self._gemini: Gemini | None = None

    def close(self) -> None:
        if self._gemini:
            self._gemini.close()

    @property
    def receives(self) -> bool:
        """Whether what `serve` needs is set here."""
        names = (declared.WEBHOOK_SIGNING_SECRET, declared.WEBHOOK_SIGNING_SECRET_FILE)
        given = any(self.environment.get(each.name, "").strip() for each in names)
        return given or bool(declared.WEBHOOK_SIGNING_SECRET.credential(self.environment)) or self.is_dynamic

    @property
    def works(self) -> bool:
        """Whether something that `work` needs is set here."""
        names = (declared.STORAGE_URL, declared.GOOGLE_API_KEY, declared.GEMINI_API_KEY)
        return any(
            self.environment.get(name, "").strip() for each in names for name in (each.name, each.file_name)
        )

    @property
    def is_dynamic(self) -> bool:
        return self.environment.get(declared.WEBHOOK_DYNAMIC.name, "").strip().lower() == "on"

    @property
    def secret_file(self) -> str | None:
        """The file of signing secrets that `serve` watches."""
        return self.environment.get(declared.WEBHOOK_SIGNING_SECRET_FILE.name, "").strip() or None

    @property
    def project(self) -> str | None:
        """Its name, where there are several."""
        return self.environment.get(PROJECT)

    def command(self, words: str) -> str:
        """A command of ours as it has to be typed here."""
        return f"batch-receiver {words}" + (f" --project {self.project}" if self.project else "")

    def setting(self, setting: Setting[T]) -> T:
        """Raises `CannotTell` where it is wrong or missing: `settings` says so."""
        try:
            return setting.read(self.environment)
        except WrongSetting:
            raise CannotTell("Can't be told before `settings` is mended.") from None

    def queues(self) -> Queues:
        return Queues(self.redis.needed(), self.setting(declared.QUEUE_PREFIX))

    def gemini(self) -> Gemini:
        """One client for all checks. Raises `CannotTell` without a key."""
        if not (api_key := self._api_key()):
            raise CannotTell(NO_KEY)
        with self._lock:
            if self._gemini is None:
                base_url = self.setting(declared.GOOGLE_GEMINI_BASE_URL)
                self._gemini = Gemini(Access(base_url, Secret(api_key)), _LIMITS)
            return self._gemini

    def ours(self) -> Webhook:
        """The webhook that is most likely this deployment's. Raises `CannotTell` where there is none."""
        found = self.find_ours()
        if found is None:
            raise CannotTell("There is no webhook of ours yet: see `webhook`.")
        return found

    def find_ours(self) -> Webhook | None:
        """Of the project's webhooks the one of our address; without one, of our path, or signed with our secret."""
        listed, secrets = self.webhooks.needed(), self._known()
        if self.url is not None:
            listed = [each for each in listed if same_url(each.uri, self.url)]
        else:
            path = self.setting(declared.WEBHOOK_PATH)
            listed = [each for each in listed if urlsplit(each.uri).path == path or signs_with(each, secrets)]
        listed.sort(key=lambda each: (not signs_with(each, secrets), not each.enabled, each.id))
        return listed[0] if listed else None

    def _known(self) -> list[Secret]:
        """The signing secrets, as far as they can be read here."""
        try:
            return self.secrets.needed()
        except CannotTell:
            return []

    def http(self) -> httpx.Client:
        """For what anybody may ask. It follows no redirect, and sends nothing of ours."""
        return httpx.Client(timeout=10, follow_redirects=False)

    def masked(self, text: str | None) -> Any:
        """`text` without any secret of the environment, whoever put it there."""
        if text is None:
            return None
        for secret in sorted(self._known_secrets(), key=len, reverse=True):
            text = text.replace(secret, "***")
        return text

    def _known_secrets(self) -> Iterator[str]:
        for name, value in self.environment.items():
            upper = name.upper()
            is_ours = any(each.is_secret and each.name == name for each in SETTINGS)
            if "://" in value:
                password = _password(value)
                if password:
                    yield password
            elif is_ours or (any(word in upper for word in _OTHER_SECRETS) and "FILE" not in upper):
                yield from (word for word in value.split() if len(word) >= _LEAST_SECRET)
        yield from (secret.reveal() for secret in self._known())
        with suppress(CannotTell):
            if key := self._api_key():
                yield key

    def _api_key(self) -> str | None:
        try:
            return declared.GOOGLE_API_KEY.find(self.environment) or declared.GEMINI_API_KEY.find(
                self.environment
            )
        except WrongSetting:
            raise CannotTell("Can't be told before `settings` is mended.") from None

    def _redis(self) -> Redis:
        connection = connect(self.setting(declared.REDIS_URL))
        connection.ping()
        return connection

    def _secrets(self) -> list[Secret]:
        """What `serve` would verify with. Raises `WrongSetting` where its file can't be read."""
        words = self.environment.get(declared.WEBHOOK_SIGNING_SECRET.name, "").split()
        path = Path(self.secret_file) if self.secret_file else None
        if path is None and not words:
            path = declared.WEBHOOK_SIGNING_SECRET.credential(self.environment)
        if path is not None:
            try:
                words += path.read_text(encoding="utf-8").split()
            except (OSError, UnicodeDecodeError, ValueError) as error:
                reason = (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
                raise WrongSetting(f"The file of signing secrets can't be read: {reason}.") from None
        return [Secret(word) for word in words]

    def _batches(self) -> list[Batch]:
        return list(islice(self.gemini().batches(page_size=_BATCHES), _BATCHES))

    def _webhooks(self) -> list[Webhook]:
        return list(islice(self.gemini().webhooks.list(), _WEBHOOKS))


def _password(url: str) -> str | None:
    try:
        return urlsplit(url).password
    except ValueError:
        return None
