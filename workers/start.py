"""What `work` looks at before it begins: what can never work ends it with one sentence, what is away may come back."""

import logging

from workers.bucket.probe import probe_apart
from workers.errors import KeyRefused, Permanent, SettingsError, WorkerError
from workers.process import Tools
from workers.settings import Settings

logger = logging.getLogger("workers")


def check(settings: Settings, tools: Tools) -> None:
    """Try the bucket, and ask Gemini once with the key.

    Raises:
        SettingsError: the bucket can't be used like this, or the key is refused.
    """
    try:
        for remark in probe_apart(settings.storage_url, settings.environment):
            logger.warning("event=bucket_lacks reason=%r", remark)
    except Permanent as error:
        raise SettingsError(str(error)) from None
    except WorkerError as error:
        logger.warning("event=bucket_unavailable reason=%r", str(error))
    try:
        next(tools.gemini.batches(page_size=1), None)
    except KeyRefused as error:
        raise SettingsError(str(error)) from None
    except WorkerError as error:
        logger.warning("event=gemini_unavailable reason=%r", str(error))
