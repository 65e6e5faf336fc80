"""Into Redis: everything that waits at the moment is announced in one call, and nobody waits for long.

A call runs in a thread. While one is on its way, whoever comes waits for the next: the more requests there
are, the more of them share a round trip and an fsync. A call that a frozen Redis or a dead connection holds
up does not hold up the others: after `LATE_SECONDS` the next group sets off beside it, on its own connection.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from receiver import logs
from receiver.deadlines import ANSWER_SECONDS
from receiver.errors import QueueUnavailable, SettingsError
from receiver.replicas import replicating
from receiver.room import check_room
from workers.contract import PREFIX, Announcement, Outcome, Queues
from workers.contract.redis_client import open_client
from workers.contract.redis_words import in_words

LATE_SECONDS = 0.25
MAX_CALLS = 4
MAX_GROUP = 64
MAX_WAITING = 10_000
ROOM_SECONDS = 1.0

_SOCKET_SECONDS = 1.0

Announce = Callable[[Redis, Sequence[Announcement]], list[Outcome]]
_Result = Outcome | Exception
_Waiting = tuple[Announcement, asyncio.Future[Outcome]]
_Call = asyncio.Future[list[_Result]]


def connect(url: str) -> Redis:
    """A client that fails at once instead of trying ten times for five seconds each, as redis-py 8 would.

    Raises:
        SettingsError: redis-py does not understand the address. Nothing is connected yet.
    """
    try:
        return open_client(
            url,
            socket_timeout=_SOCKET_SECONDS,
            socket_connect_timeout=_SOCKET_SECONDS,
            retry=Retry(NoBackoff(), 0),
            max_connections=4 * MAX_CALLS,
        )
    except ValueError:
        raise SettingsError("REDIS_URL is not an address that the Redis client understands.") from None


def announce_with(prefix: str) -> Announce:
    """How announcements get into the queues of a prefix, while there is room for them."""
    looked_at, replicated = float("-inf"), None

    def announce(connection: Redis, announcements: Sequence[Announcement]) -> list[Outcome]:
        nonlocal looked_at, replicated
        if time.monotonic() - looked_at > ROOM_SECONDS:
            check_room(connection)
            looked_at = time.monotonic()
        replicated = replicated or replicating(connection)
        return Queues(replicated, prefix).announce(announcements)

    return announce


class Intake:
    """The only way from the receiver into the queue. Belongs to one event loop."""

    def __init__(
        self,
        connection: Redis,
        announce: Announce = announce_with(PREFIX),  # noqa: B008 - a function of nothing that changes
        *,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        self._connection = connection
        self._announce = announce
        self._answer_seconds = answer_seconds
        self._waiting: deque[_Waiting] = deque()
        self._calls = 0
        # The call that whoever comes waits for; None where the one on its way is late.
        self._awaited: _Call | None = None
        self._threads = ThreadPoolExecutor(MAX_CALLS, thread_name_prefix="announce")

    async def announce(self, announcement: Announcement) -> Outcome:
        """Have a batch enqueued. When this returns, Redis holds the job.

        Raises:
            QueueUnavailable: it may or may not be there; the sender has to try again.
        """
        if len(self._waiting) >= MAX_WAITING:
            raise QueueUnavailable("too many deliveries wait for Redis")
        answer: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting.append((announcement, answer))
        self._set_off()
        try:
            async with asyncio.timeout(self._answer_seconds):
                outcome = await answer
        except TimeoutError:
            raise QueueUnavailable("Redis did not answer in time") from None
        if outcome is Outcome.FULL:
            raise QueueUnavailable("too many batches that only dynamic webhooks told of wait already")
        return outcome

    def close(self) -> None:
        """Let go of threads and connections. Calls under way end by their own timeouts."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._connection.close()

    def _set_off(self) -> None:
        if self._awaited is not None or self._calls >= MAX_CALLS:
            return
        group: list[_Waiting] = []
        while self._waiting and len(group) < MAX_GROUP:
            announcement, answer = self._waiting.popleft()
            if not answer.done():  # done: its sender has been told to come back
                group.append((announcement, answer))
        if not group:
            return
        loop = asyncio.get_running_loop()
        call = loop.run_in_executor(self._threads, self._announce_group, [one for one, _ in group])
        self._awaited = call
        self._calls += 1
        call.add_done_callback(partial(self._arrive, group))
        loop.call_later(LATE_SECONDS, self._go_on, call)

    def _arrive(self, group: Sequence[_Waiting], call: _Call) -> None:
        self._calls -= 1
        if call.cancelled():
            return
        for (_, answer), result in zip(group, call.result(), strict=True):
            if answer.done():
                continue
            if isinstance(result, Exception):
                answer.set_exception(result)
            else:
                answer.set_result(result)
        self._go_on(call)

    def _go_on(self, call: _Call) -> None:
        """A call has ended, or is late: the next may set off."""
        if self._awaited is call:
            self._awaited = None
        self._set_off()

    def _announce_group(self, announcements: Sequence[Announcement]) -> list[_Result]:
        """In a thread: an outcome or a QueueUnavailable for each, whatever happens."""
        try:
            return list(self._announce(self._connection, announcements))
        except (RedisConnectionError, RedisTimeoutError) as error:
            return [_unavailable(error) for _ in announcements]
        except Exception as error:  # noqa: BLE001 - whatever it is, the sender is told to try again
            if len(announcements) == 1:
                return [_unavailable(error)]
        # Redis answered, but not to all of this: one broken record must not be its neighbours' trouble.
        return [self._announce_group([announcement])[0] for announcement in announcements]


def _unavailable(error: Exception) -> QueueUnavailable:
    if not isinstance(error, RedisError):
        logs.error("announce_failed", error=type(error).__name__)
    return QueueUnavailable(f"Redis did not take the job: {in_words(error)}")
