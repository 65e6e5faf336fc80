"""What can go wrong at the public edge, and what the sender is told.

    ReceiverError
    ├── SettingsError       a setting is missing or wrong: the process does not start
    └── Refusal             a delivery is not accepted
        ├── BodyTooLarge        413
        ├── BodyTooSlow         408
        ├── ClientGone          nobody is left to tell
        ├── SignatureRefused    401, always with the same body
        │   └── UnknownKey      a well-formed dynamic signature that no known key explains
        └── Unavailable         503 with Retry-After: Gemini tries again
            ├── KeysUnavailable     no public keys, and their address does not answer
            └── QueueUnavailable    Redis did not take the job

Messages are for the log and for operators. None holds a secret, a signature or a body.
"""


class ReceiverError(Exception):
    """Root of all that this package raises on purpose."""


class SettingsError(ReceiverError):
    pass


class Refusal(ReceiverError):
    pass


class BodyTooLarge(Refusal):
    pass


class BodyTooSlow(Refusal):
    pass


class ClientGone(Refusal):
    pass


class SignatureRefused(Refusal):
    pass


class UnknownKey(SignatureRefused):
    pass


class Unavailable(Refusal):
    pass


class KeysUnavailable(Unavailable):
    pass


class QueueUnavailable(Unavailable):
    pass
