"""What `work` looks at before it begins: what can never work ends it with one sentence, what is away may come back."""

import time
from contextlib import closing

from workers.bucket import layout
from workers.bucket.probe import try_bucket
from workers.contract import logs
from workers.errors import BucketUnavailable, KeyRefused, SettingsError, WorkerError
from workers.gemini.access import Access
from workers.gemini.client import Gemini
from workers.settings import Settings

logger = logs.named("workers")

_PAUSE_SECONDS = 2.0
_SAY_SECONDS = 60.0


def check(settings: Settings) -> None:
    """Try the bucket, and wait while it is away, with a line a minute; ask Gemini once with the key.

    Nothing of it stays: a connection that work-horses inherited would be read by all of them.

    Raises:
        SettingsError: the bucket can't be used like this, or the key is refused.
    """
    _try_bucket(settings)
    try:
        with closing(Gemini(Access(settings.base_url, settings.api_key))) as gemini:
            next(gemini.batches(page_size=1), None)
    except KeyRefused as error:
        raise SettingsError(str(error)) from None
    except WorkerError as error:
        logger.warning("gemini_unavailable", reason=str(error))


def _try_bucket(settings: Settings) -> None:
    said_at, folder = float("-inf"), layout.trial(time.time())
    while True:
        try:
            remarks = try_bucket(settings.storage_url, settings.environment, folder=folder)
        except BucketUnavailable as error:
            if time.monotonic() - said_at >= _SAY_SECONDS:
                said_at = time.monotonic()
                logger.warning("bucket_awaited", reason=str(error))
            time.sleep(_PAUSE_SECONDS)
        else:
            break
    for remark in remarks:
        logger.warning("bucket_lacks", reason=remark)
