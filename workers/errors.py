"""What can go wrong while a batch is processed, and what is done about it.

    WorkerError
    ├── Transient      can heal: the job is tried again with backoff
    │   ├── GeminiUnavailable   network, and every status that is not known to be final
    │   │   └── TooSlow             it answers, but hardly moves
    │   ├── BucketUnavailable   the bucket or the disk did not answer as it should
    │   └── NotReady            not final yet, or final without its output
    ├── Refused        heals once somebody acts: tried again slowly
    │   ├── KeyRefused          the API key itself: unknown, leaked, suspended, restricted
    │   └── Unreadable          this key can't read the batch (404, 403): somebody else's, revoked or deleted
    └── Permanent      trying again changes nothing: the reason is kept, an operator may replay
        ├── ResultsGone         the download itself says that the result file is gone
        ├── Incomplete          what the bucket holds does not add up
        └── SettingsError       a setting is missing or wrong

Every message is one sentence for a person: what is wrong and what to do. A library's own errors are
translated where the library is called.
"""


class WorkerError(Exception):
    """Root of all that this package raises on purpose."""


class Transient(WorkerError):
    """Can heal. `retry_after` is what the other side asked for, in seconds."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class GeminiUnavailable(Transient):
    pass


class TooSlow(GeminiUnavailable):
    pass


class BucketUnavailable(Transient):
    pass


class NotReady(Transient):
    pass


class Refused(WorkerError):
    pass


class KeyRefused(Refused):
    pass


class Unreadable(Refused):
    pass


class Permanent(WorkerError):
    pass


class ResultsGone(Permanent):
    pass


class Incomplete(Permanent):
    pass


class SettingsError(Permanent):
    pass
