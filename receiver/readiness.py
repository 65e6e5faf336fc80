"""Whether Redis would take an announcement: at start, for whoever asks, and in the log while it would not."""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from redis import Redis
from redis.exceptions import RedisError

from receiver import logs
from receiver.deadlines import ANSWER_SECONDS
from receiver.errors import SettingsError
from receiver.redis_look import look
from receiver.rehearsal import rehearse
from workers.contract import PREFIX
from workers.contract.redis_words import in_words

LOOK_SECONDS = 5.0
LINE_SECONDS = 60.0


class Readiness:
    """Looks at one Redis, from a thread of its own."""

    def __init__(
        self,
        connection: Redis,
        *,
        prefix: str = PREFIX,
        answer_seconds: float = ANSWER_SECONDS,
        look_seconds: float = LOOK_SECONDS,
        line_seconds: float = LINE_SECONDS,
    ) -> None:
        self._connection = connection
        self._prefix = prefix
        self.also: Sequence[str] = ()
        """Other prefixes below which announcements have to be taken."""
        self._answer_seconds = answer_seconds
        self._look_seconds = look_seconds
        self._line_seconds = line_seconds
        self._warned: set[str] = set()
        self._is_away = False
        self._said_at = float("-inf")
        self._asked: asyncio.Future[bool] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="readiness")

    def begin(self) -> None:
        """Look before the first delivery. A Redis that is away is logged; it may come back.

        Raises:
            SettingsError: it can never take an announcement.
        """
        self._say(self._look())

    async def watch(self) -> None:
        """Say once a minute that Redis is away, and once that it is back. Never returns."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._look_seconds if self._is_away else self._line_seconds)
            try:
                problem = await loop.run_in_executor(self._thread, self._look)
            except SettingsError as error:  # It has become another Redis since we started.
                problem = str(error)
            self._say(problem)

    async def is_ready(self) -> bool:
        """Whether an announcement would be taken. Many who ask at once share one question."""
        if self._asked is None or self._asked.done():
            self._asked = asyncio.get_running_loop().run_in_executor(self._thread, self._would_take)
        try:
            async with asyncio.timeout(self._answer_seconds):
                return await asyncio.shield(self._asked)
        except TimeoutError:
            return False

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _would_take(self) -> bool:
        try:
            rehearse(self._connection, self._prefix)
        except (RedisError, OSError):
            return False
        return True

    def _look(self) -> str | None:
        """What stands against an announcement. Raises SettingsError where that will not pass."""
        try:
            warnings = look(self._connection, self._prefix)
            for prefix in self.also:
                look(self._connection, prefix)
        except (RedisError, OSError) as error:
            return in_words(error)
        for warning in warnings:
            if warning not in self._warned:
                self._warned.add(warning)
                logs.warning("redis_settings", advice=warning)
        return None

    def _say(self, problem: str | None) -> None:
        if problem is None:
            if self._is_away:
                logs.info("redis_available")
            self._said_at = float("-inf")
        elif time.monotonic() - self._said_at >= self._line_seconds:
            self._said_at = time.monotonic()
            logs.error("redis_unavailable", reason=problem)
        self._is_away = problem is not None
