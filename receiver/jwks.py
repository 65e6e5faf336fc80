"""Google's public keys, fetched when first needed, kept fresh in the background, and kept when that fails."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from receiver import logs
from receiver.errors import KeysUnavailable
from receiver.public_keys import MAX_DOCUMENT_BYTES, PublicKeys, parse_jwks

REFRESH_SECONDS = 1800.0
# Between two fetches, however many forgeries name keys that nobody knows.
PAUSE_SECONDS = 60.0
# The same while there are no keys at all and genuine deliveries wait.
PAUSE_WITHOUT_KEYS_SECONDS = 2.0
FETCH_SECONDS = 1.5

Fetch = Callable[[str], Awaitable[bytes]]


async def fetch(url: str) -> bytes:
    """The document at `url`, read up to its limit. Redirects are not followed.

    Raises:
        KeysUnavailable: no answer of status 200 in time.
    """
    import httpx  # noqa: PLC0415 - a receiver without dynamic webhooks has no HTTP client in it

    try:
        async with (
            asyncio.timeout(FETCH_SECONDS),
            httpx.AsyncClient(follow_redirects=False, timeout=FETCH_SECONDS) as client,
            client.stream("GET", url, headers={"Accept-Encoding": "identity"}) as response,
        ):
            if response.status_code != 200:
                raise KeysUnavailable(f"the JWKS address answered {response.status_code}")
            document = bytearray()
            async for chunk in response.aiter_raw():
                document += chunk
                if len(document) > MAX_DOCUMENT_BYTES:
                    raise KeysUnavailable("the JWKS is too large")
            return bytes(document)
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, OSError) as error:
        raise KeysUnavailable(f"the JWKS address does not answer ({type(error).__name__})") from None


class Jwks:
    """The cache of one JWKS address. Belongs to one event loop; makes no request before `renew` is called."""

    def __init__(
        self,
        url: str,
        fetch: Fetch = fetch,
        clock: Callable[[], float] = time.monotonic,
        *,
        refresh_seconds: float = REFRESH_SECONDS,
    ) -> None:
        self._url = url
        self._fetch = fetch
        self._clock = clock
        self._refresh_seconds = refresh_seconds
        self._keys = PublicKeys()
        self._attempted_at = float("-inf")
        self._fetching: asyncio.Task[None] | None = None
        self._refreshing: asyncio.TimerHandle | None = None
        self._failure = "the JWKS has not been fetched"

    @property
    def keys(self) -> PublicKeys:
        """The keys known now, perhaps none."""
        return self._keys

    async def renew(self) -> bool:
        """Fetch the keys because those at hand don't explain a signature; whether that was worth another look.

        Raises:
            KeysUnavailable: there are none, and none to be had.
        """
        if self._fetching is None:
            pause = PAUSE_SECONDS if self._keys else PAUSE_WITHOUT_KEYS_SECONDS
            if self._clock() - self._attempted_at < pause:
                if not self._keys:
                    raise KeysUnavailable(self._failure)
                return False
            self._start()
        if self._fetching is not None:
            # Shared by all who wait, so none of them may cancel it by going away.
            await asyncio.shield(self._fetching)
        if not self._keys:
            raise KeysUnavailable(self._failure)
        return True

    def close(self) -> None:
        if self._refreshing is not None:
            self._refreshing.cancel()
        if self._fetching is not None:
            self._fetching.cancel()

    def _start(self) -> None:
        self._refreshing = None
        if self._fetching is None:
            self._attempted_at = self._clock()
            self._fetching = asyncio.create_task(self._replace())

    async def _replace(self) -> None:
        try:
            self._keys = parse_jwks(await self._fetch(self._url))
        except (KeysUnavailable, ValueError) as error:
            self._failure = str(error)
            logs.error("jwks_failed", reason=error, kept=len(self._keys.ed25519) + len(self._keys.rsa))
            again = PAUSE_SECONDS
        else:
            logs.info("jwks_fetched", ed25519=len(self._keys.ed25519), rsa=len(self._keys.rsa))
            again = self._refresh_seconds
        finally:
            self._fetching = None
        if self._keys:
            if self._refreshing is not None:
                self._refreshing.cancel()
            self._refreshing = asyncio.get_running_loop().call_later(again, self._start)
