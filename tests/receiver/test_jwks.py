import asyncio
import logging
from collections.abc import Callable

import pytest

from receiver.errors import KeysUnavailable
from receiver.jwks import PAUSE_SECONDS, PAUSE_WITHOUT_KEYS_SECONDS, Jwks, fetch
from tests.receiver import signing
from tests.receiver.jwks_server import JwksServer

DOCUMENT = signing.jwks(signing.ed25519_jwk(signing.ed25519_key()))


class Source:
    """Counts what it is asked, and answers with a document or not at all."""

    def __init__(self) -> None:
        self.asked = 0
        self.asked_thrice = asyncio.Event()
        self.now = 1000.0
        self.document: bytes | None = DOCUMENT

    async def fetch(self, _url: str) -> bytes:
        self.asked += 1
        if self.asked == 3:
            self.asked_thrice.set()
        await asyncio.sleep(0)
        if self.document is None:
            raise KeysUnavailable("the JWKS address does not answer")
        return self.document

    def clock(self) -> float:
        return self.now

    def jwks(self, refresh_seconds: float = 1800.0) -> Jwks:
        return Jwks("https://keys.example/", self.fetch, self.clock, refresh_seconds=refresh_seconds)


def test_nothing_is_fetched_before_it_is_needed() -> None:
    source = Source()
    assert not source.jwks().keys
    assert source.asked == 0


def test_many_who_need_the_keys_at_once_share_one_fetch() -> None:
    source = Source()

    async def need() -> list[bool]:
        jwks = source.jwks()
        renewed = await asyncio.gather(*(jwks.renew() for _ in range(50)))
        assert jwks.keys
        jwks.close()
        return renewed

    assert asyncio.run(need()) == [True] * 50
    assert source.asked == 1


def test_unknown_keys_cause_one_fetch_a_minute_however_many_there_are() -> None:
    source = Source()

    async def flood() -> None:
        jwks = source.jwks()
        assert await jwks.renew()
        for _ in range(1000):
            assert not await jwks.renew()
        source.now += PAUSE_SECONDS
        assert await jwks.renew()
        assert not await jwks.renew()
        jwks.close()

    asyncio.run(flood())
    assert source.asked == 2


def test_without_any_keys_a_failed_fetch_is_tried_again_soon_and_not_at_once() -> None:
    source = Source()
    source.document = None

    async def need() -> None:
        jwks = source.jwks()
        for _ in range(5):
            with pytest.raises(KeysUnavailable):
                await jwks.renew()
        assert source.asked == 1
        source.document = DOCUMENT
        source.now += PAUSE_WITHOUT_KEYS_SECONDS
        assert await jwks.renew()
        jwks.close()

    asyncio.run(need())


@pytest.mark.parametrize("broken", [None, b"<html>", b'{"keys":[]}'])
def test_keys_are_kept_when_a_later_fetch_fails(
    broken: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    source = Source()

    async def need() -> None:
        jwks = source.jwks()
        await jwks.renew()
        known = jwks.keys
        source.document = broken
        source.now += PAUSE_SECONDS
        assert await jwks.renew()
        assert jwks.keys is known
        jwks.close()

    with caplog.at_level(logging.ERROR, "receiver"):
        asyncio.run(need())
    assert "event=jwks_failed" in caplog.text


def test_keys_are_refreshed_in_the_background_without_being_asked_for() -> None:
    source = Source()

    async def wait() -> None:
        jwks = source.jwks(refresh_seconds=0.01)
        await jwks.renew()
        async with asyncio.timeout(5):
            await source.asked_thrice.wait()
        jwks.close()

    asyncio.run(wait())


def test_one_who_gives_up_waiting_does_not_end_the_fetch_for_others() -> None:
    source = Source()

    async def need() -> None:
        jwks = source.jwks()
        impatient = asyncio.create_task(jwks.renew())
        patient = asyncio.create_task(jwks.renew())
        await asyncio.sleep(0)
        impatient.cancel()
        assert await patient
        jwks.close()

    asyncio.run(need())


def test_the_document_is_fetched_over_http(jwks_server: JwksServer) -> None:
    jwks_server.document = DOCUMENT
    assert asyncio.run(fetch(jwks_server.url)) == DOCUMENT


def redirect(server: JwksServer) -> None:
    server.status, server.location = 302, server.url


def enlarge(server: JwksServer) -> None:
    server.document = b" " * 10_000_000


def fail(server: JwksServer) -> None:
    server.status = 500


def stop(server: JwksServer) -> None:
    server.stop()


def stall(server: JwksServer) -> None:
    server.stalls = True


@pytest.mark.parametrize("trouble", [redirect, enlarge, fail, stop, stall])
def test_redirects_large_answers_errors_and_silence_are_no_keys(
    jwks_server: JwksServer, trouble: Callable[[JwksServer], None]
) -> None:
    trouble(jwks_server)
    with pytest.raises(KeysUnavailable):
        asyncio.run(fetch(jwks_server.url))
    assert jwks_server.asked <= 1
