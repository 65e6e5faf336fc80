"""What `work` looks at before it begins: what can never work ends it with one sentence, what is away may come back."""

import logging
from contextlib import closing

from workers.bucket.probe import probe_apart
from workers.errors import KeyRefused, Permanent, SettingsError, WorkerError
from workers.gemini.access import Access
from workers.gemini.client import Gemini
from workers.settings import Settings

logger = logging.getLogger("workers")


def check(settings: Settings) -> None:
    """Try the bucket, and ask Gemini once with the key.

    Nothing of it stays: a connection that work-horses inherited would be read by all of them.

    Raises:
        SettingsError: the bucket can't be used like this, or the key is refused.
    """
    try:
        for remark in _tried(settings):
            logger.warning("event=bucket_lacks reason=%r", remark)
    except Permanent as error:
        raise SettingsError(str(error)) from None
    except WorkerError as error:
        logger.warning("event=bucket_unavailable reason=%r", str(error))
    try:
        with closing(Gemini(Access(settings.base_url, settings.api_key))) as gemini:
            next(gemini.batches(page_size=1), None)
    except KeyRefused as error:
        raise SettingsError(str(error)) from None
    except WorkerError as error:
        logger.warning("event=gemini_unavailable reason=%r", str(error))


def _tried(settings: Settings) -> tuple[str, ...]:
    """What the bucket lacks. What it is refused for has to be seen twice: answers that are cut look like much."""
    try:
        return probe_apart(settings.storage_url, settings.environment)
    except Permanent:
        return probe_apart(settings.storage_url, settings.environment)
