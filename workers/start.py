"""What `work` looks at before it begins: what can never work ends it with one sentence, what is away may come back."""

import logging

from workers.errors import KeyRefused, SettingsError, WorkerError
from workers.process import Tools

logger = logging.getLogger("workers")


def check(tools: Tools) -> None:
    """Ask Gemini once with the key.

    Raises:
        SettingsError: the key is refused.
    """
    try:
        next(tools.gemini.batches(page_size=1), None)
    except KeyRefused as error:
        raise SettingsError(str(error)) from None
    except WorkerError as error:
        logger.warning("event=gemini_unavailable reason=%r", str(error))
