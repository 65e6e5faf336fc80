"""One project of the deployment: its queues, its history and its bucket."""

from functools import cached_property
from threading import Lock

from redis import Redis

from console.settings import ProjectSettings
from workers.bucket.opening import open_bucket
from workers.bucket.protocol import Bucket
from workers.contract import Queues
from workers.contract.history import History
from workers.contract.history.pages import Pages
from workers.errors import WorkerError


class NoStorage(WorkerError):
    """Where the results of a project are is not set."""


class Project:
    """Its bucket is opened the first time that a page needs it, so that the console always starts."""

    def __init__(self, settings: ProjectSettings, connection: Redis) -> None:
        self.settings = settings
        self.name = settings.name
        self.queues = Queues(connection, settings.queue_prefix)
        self.history = History(connection, settings.queue_prefix)
        self.pages = Pages(connection, settings.queue_prefix)
        self._opening = Lock()

    @property
    def bucket(self) -> Bucket:
        """Where its results are. Raises `WorkerError`, as often as it is asked for until it can be opened."""
        with self._opening:
            return self._bucket

    @cached_property
    def _bucket(self) -> Bucket:
        if self.settings.storage_url is None:
            raise NoStorage(f"No storage is set for project {self.name}: name it in PROJECTS_FILE.")
        return open_bucket(self.settings.storage_url, self.settings.environment, make=False)
