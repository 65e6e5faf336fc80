"""The projects that are served, each at its own path, with its own keys and its own way into Redis.

So what is sent to one can't pass for another's, and a flood at one path fills nobody else's queue. A file of projects
that changes counts within seconds; one that is wrong is told of, and the one before stays in force.
"""

import asyncio
from collections.abc import Callable, Mapping
from itertools import combinations
from pathlib import Path

from receiver import logs
from receiver.app import Webhook
from receiver.deliveries import Deliveries, Measures, write_with
from receiver.elsewhere import Notes
from receiver.errors import SettingsError
from receiver.intake import Intake, announce_with, connect
from receiver.keyring import Keyring
from receiver.settings import Settings, load_all
from receiver.signatures import Verify
from workers.contract.projects import DEFAULT, read
from workers.contract.setting.reading import WrongSetting
from workers.contract.settings import PROJECTS_FILE

LOOK_SECONDS = 1.0
# Deliveries to a project that is not served any more are answered until then.
_END_SECONDS = 10.0


class _Endpoint:
    """One project at its path."""

    def __init__(self, settings: Settings, measures: Measures) -> None:
        """Raises SettingsError where its secret file is missing or wrong."""
        self.settings = settings
        self.keyring = Keyring(settings)
        connection = connect(settings.redis_url)
        self.intake = Intake(connection, announce_with(settings.queue_prefix))
        self.notes = Notes(connection, settings.queue_prefix)
        self._deliveries = Deliveries(
            write_with(connection, settings.queue_prefix),
            project=settings.project or DEFAULT,
            measures=measures,
        )
        self.webhook = Webhook(
            self.keyring.verify, self.intake, settings.max_body_bytes, self._deliveries, settings.project
        )

    def close(self) -> None:
        self._deliveries.close()
        self.keyring.close()
        self.intake.close()


class Projects:
    """Those of an environment. `when_changed` is called after others have taken their place."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """Raises SettingsError where the file or a project in it is wrong."""
        self._environment = dict(environment)
        self._measures = Measures()
        self.registry = self._measures.registry
        self._complaint = ""
        self._content = self._read()
        self._endpoints: list[_Endpoint] = []
        self._endpoints = self._build()
        self.when_changed: Callable[[], None] = lambda: None

    @property
    def settings(self) -> list[Settings]:
        """Of each project; there is at least one."""
        return [each.settings for each in self._endpoints]

    @property
    def names(self) -> str:
        return ",".join(sorted(each.project or "" for each in self.settings))

    @property
    def webhooks(self) -> dict[str, Webhook]:
        """By path."""
        return {each.settings.path: each.webhook for each in self._endpoints}

    def noted(self) -> list[tuple[Verify, Notes]]:
        """How each project's deliveries are known, and where those to other paths are noted."""
        return [(each.keyring.verify, each.notes) for each in self._endpoints]

    def reload(self) -> None:
        """Read the file of projects and those of secrets now."""
        self.look()
        for each in self._endpoints:
            each.keyring.reload()

    async def watch(self) -> None:
        """Look at the file of projects, if there is one, again and again. Never returns."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self.look()

    def look(self) -> None:
        """Read the file of projects. Its content is compared, as times and sizes can stay what they were."""
        try:
            content = self._read()
            if content == self._content:
                return
            self._content = content
            before, self._endpoints = self._endpoints, self._build()
        except SettingsError as error:
            self._content = (
                None  # What is wrong may be another file, and be put right without a change of this one.
            )
            self._complain(str(error))
            return
        self._complaint = ""
        for each in before:
            if each not in self._endpoints:
                asyncio.get_running_loop().call_later(_END_SECONDS, each.close)
        logs.info("projects_read", projects=self.names)
        self.when_changed()

    def close(self) -> None:
        for each in self._endpoints:
            each.close()

    def _complain(self, reason: str) -> None:
        """Once, not every second."""
        if reason != self._complaint:
            self._complaint = reason
            logs.error("projects_broken", reason=reason, kept=self.names)

    def _read(self) -> bytes | None:
        """The file of projects, None where there is none."""
        try:
            name = PROJECTS_FILE.find(self._environment)
            return read(Path(name)) if name else None
        except WrongSetting as error:
            raise SettingsError(str(error)) from None

    def _build(self) -> list[_Endpoint]:
        """Those that stay as they were keep what they have: keys that were fetched, deliveries on their way."""
        before = {each.settings: each for each in self._endpoints}
        new = [before.get(each) or _Endpoint(each, self._measures) for each in load_all(self._environment)]
        for one, other in combinations(new, 2):
            if set(one.keyring.secrets()) & set(other.keyring.secrets()):
                raise SettingsError(
                    f"Projects {one.settings.project} and {other.settings.project} have a signing secret in common:"
                    " give each the one of its own webhook."
                )
        return new
