"""What every page is given: the deployment's Redis, its projects, and what is under way in this process."""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

from redis import Redis
from starlette.requests import Request

from console.bulk import Bulks
from console.diagnosis import Diagnoses
from console.merged import Merged
from console.project import Project
from console.redis_connection import connect
from console.settings import Settings
from console.verifications import Verifications


@dataclass(frozen=True)
class Site:
    """Its Redis is asked for the first time when a page needs it, so that the console always starts."""

    settings: Settings
    connection: Redis
    projects: Mapping[str, Project]
    pages: Merged
    verifications: Verifications
    bulks: Bulks
    diagnoses: Diagnoses

    @classmethod
    def of(cls, settings: Settings) -> "Site":
        connection = connect(settings.redis_url)
        projects = {each.name: Project(each, connection) for each in settings.projects}
        verifications = Verifications()
        return cls(
            settings,
            connection,
            projects,
            Merged({name: each.pages for name, each in projects.items()}),
            verifications,
            Bulks(projects, verifications),
            Diagnoses([each.environment for each in settings.projects]),
        )

    @property
    def has_several(self) -> bool:
        """Whether it has to be said which project is meant."""
        return len(self.projects) > 1

    def chosen(self, name: str | None) -> list[Project]:
        """The project of that name, or all where none is named."""
        if name is None:
            return [*self.projects.values()]
        return [self.projects[name]] if name in self.projects else []

    def batch_path(self, batch: str, project: str | None = None) -> str:
        """Where a batch's pages begin. With one project its name is left out."""
        middle = f"{quote(project, safe='')}/" if self.has_several and project else ""
        return f"/batches/{middle}{quote(batch, safe='')}"

    def close(self) -> None:
        self.bulks.close()
        self.verifications.close()
        self.connection.close()


def of(request: Request) -> Site:
    """The site that a request is for."""
    site: Site = request.app.state.site
    return site


def who(request: Request) -> str:
    """Who acts."""
    return str(request.state.who)


def project_filter(request: Request) -> str | None:
    """The project that `?project=` names; None for all. One that there is not stays, and nothing is of it."""
    return request.query_params.get("project", "")[:100] or None
