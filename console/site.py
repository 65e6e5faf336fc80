"""What every page is given: the deployment's Redis, its bucket, and what is under way in this process."""

from dataclasses import dataclass
from functools import cached_property
from threading import Lock

from redis import Redis
from starlette.requests import Request

from console.bulk import Bulks
from console.diagnosis import Diagnoses
from console.redis_connection import connect
from console.settings import Settings
from console.verifications import Verifications
from workers.bucket.opening import open_bucket
from workers.bucket.protocol import Bucket
from workers.contract import Queues
from workers.contract.history import History
from workers.contract.history.pages import Pages
from workers.contract.history.states import DEFAULT_PROJECT


@dataclass(frozen=True)
class Site:
    """Its Redis and bucket are asked for the first time when a page needs them, so that the console always starts."""

    settings: Settings
    connection: Redis
    queues: Queues
    pages: Pages
    history: History
    verifications: Verifications
    bulks: Bulks
    diagnoses: Diagnoses

    @classmethod
    def of(cls, settings: Settings) -> "Site":
        connection = connect(settings.redis_url)
        queues = Queues(connection, settings.queue_prefix)
        history = History(connection, settings.queue_prefix)
        return cls(
            settings,
            connection,
            queues,
            Pages(connection, settings.queue_prefix),
            history,
            Verifications(settings.environment),
            Bulks(queues, history),
            Diagnoses(settings.environment),
        )

    def bucket(self, project: str = DEFAULT_PROJECT) -> Bucket | None:
        """Where a project's results are; None for one that is not told of here. Raises `WorkerError`."""
        if project != DEFAULT_PROJECT:
            return None
        with _OPENING:
            return self._bucket

    @cached_property
    def _bucket(self) -> Bucket:
        return open_bucket(self.settings.storage_url, self.settings.environment, make=False)

    def close(self) -> None:
        self.verifications.close()
        self.bulks.close()
        self.connection.close()


_OPENING = Lock()


def of(request: Request) -> Site:
    """The site that a request is for."""
    site: Site = request.app.state.site
    return site


def who(request: Request) -> str:
    """Who acts."""
    return str(request.state.who)
