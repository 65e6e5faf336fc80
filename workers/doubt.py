"""Before a batch is enqueued by hand: does anybody know it? A misspelt id would be tried for weeks."""

from collections.abc import Mapping
from contextlib import closing

from workers.contract import Queues
from workers.contract import settings as declared
from workers.contract.setting.reading import WrongSetting
from workers.errors import SettingsError, Unreadable, WorkerError
from workers.gemini.access import Access, Secret
from workers.gemini.client import Gemini
from workers.gemini.http import Limits

# Somebody waits at a terminal, and a batch with large results takes minutes: then it is there.
_LIMITS = Limits(connect=5.0, read=5.0, total=10.0, batch_read=10.0, batch_total=10.0)


def is_unheard_of(queues: Queues, batch: str, environment: Mapping[str, str]) -> bool:
    """Whether Redis has nothing of a batch, and Gemini, asked once, says that it has none either.

    Where Gemini is away, or no API key is at hand, it is believed.

    Raises:
        SettingsError: Gemini's address or the key is not one.
        redis.exceptions.RedisError
    """
    if queues.announced(batch).count or queues.connection.exists(f"rq:job:{queues.batch_job_id(batch)}"):
        return False
    access = _access(environment)
    if access is None:
        return False
    with closing(Gemini(access, _LIMITS)) as gemini:
        try:
            gemini.batch(batch)
        except Unreadable:
            return True
        except WorkerError:
            return False
    return False


def _access(environment: Mapping[str, str]) -> Access | None:
    try:
        has_key = declared.GOOGLE_API_KEY.find(environment) or declared.GEMINI_API_KEY.find(environment)
        if not has_key:
            return None
        return Access(
            declared.GOOGLE_GEMINI_BASE_URL.read(environment), Secret(declared.api_key(environment))
        )
    except WrongSetting as error:
        raise SettingsError(str(error)) from None
