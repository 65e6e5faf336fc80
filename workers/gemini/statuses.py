"""What Gemini's answers mean: one table from status to error, each error a sentence for a person. Pure."""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import StrEnum

import msgspec

from workers.errors import (
    GeminiUnavailable,
    KeyRefused,
    Permanent,
    Refused,
    ResultsGone,
    Unreadable,
    WorkerError,
)
from workers.gemini.access import Secret

# All that is known not to heal. Everything else can: a 499 comes to clients that cancelled nothing (gemini-cli #20309),
# proxies add 520 to 530, and whoever mends a gateway mends its redirects.
_FINAL = {
    400,  # the request itself is refused, and the same one will be asked again
    404,  # of something other than a batch or its file: there is none
    405,  # the address does not know the call
    410,  # gone for good, by its definition
}
# Reasons of google.rpc.ErrorInfo and, where there is none (a leaked key: python-genai #1764), words.
_KEY_REASONS = re.compile(r"API_KEY_.*|CONSUMER_.*|SERVICE_DISABLED|BILLING_DISABLED|USER_PROJECT_DENIED")
_KEY_WORDS = re.compile(
    r"\bapi[ _-]?key|\bleaked\b|\bsuspended\b|\bdisabled\b|\bblocked\b|\breferr?er\b|\bip address"
    r"|\bunregistered callers|\bbilling\b|\bnot been used in project|\bproject has been denied",
    re.IGNORECASE,
)
_FILE_WORDS = re.compile(r"\bfile\b", re.IGNORECASE)
_LONG_SECONDS = 30.0
_READ_CHARACTERS = 10_000
_SAID_CHARACTERS = 300


class About(StrEnum):
    """What is asked for: it decides what a 404 means, and a 403."""

    BATCH = "batch"
    FILE = "file"
    LIST = "list"
    WEBHOOK = "webhook"
    MODEL = "model"
    UPLOAD = "upload"


@dataclass(frozen=True, slots=True)
class _Said:
    """What Gemini itself says in an error, as far as it says anything."""

    message: str = ""
    status: str = ""
    reasons: tuple[str, ...] = ()
    retry_delay: float | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer other than 200: its status, headers, what its body begins with, and how many seconds it took."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    seconds: float = 0.0


def error_of(answer: Answer, about: About, key: Secret) -> WorkerError:
    """The error that an answer stands for. Its sentence quotes Gemini's own, never the `key`."""
    status, said = answer.status, _said(answer.body)
    words = quotable(said.message, key).rstrip(".")
    quoted = f": {words}." if words else "."
    if _is_about_the_key(status, said, answer.body) or (
        status == 403 and about in {About.LIST, About.WEBHOOK}
    ):
        return KeyRefused(f"Gemini refused the API key ({status}), check GEMINI_API_KEY{quoted}")
    match status, about:
        case 403 | 404, About.BATCH:
            return Unreadable(
                "This key can't read the batch: it is another project's, revoked or deleted, or its id is misspelt."
            )
        case 404, About.FILE:
            return ResultsGone("The result file is gone: Gemini has deleted it.")
        case 403, About.FILE if _FILE_WORDS.search(said.message):
            return ResultsGone(f"The result file is gone, or not this key's (403){quoted}")
        case 403, _:
            return Refused(f"Gemini refuses the {about} (403){quoted}")
        case 503 | 504, About.BATCH if status == 504 or answer.seconds > _LONG_SECONDS:
            sentence = (
                f"Gemini could not put the batch together in time ({status}){quoted} If its results are inline and "
                "large, submit such jobs as a file."
            )
            return GeminiUnavailable(sentence, _retry_after(answer.headers))
    sentence = _sentence(status, about, quoted)
    if status in _FINAL and said.status != "FAILED_PRECONDITION":
        return Permanent(sentence)
    return GeminiUnavailable(sentence, _retry_after(answer.headers, said.retry_delay))


def _sentence(status: int, about: About, quoted: str) -> str:
    match status:
        case 404:
            return f"Gemini knows no such {about} (404){quoted}"
        case 409:
            return f"Gemini refused it as a conflict with what exists (409){quoted}"
        case 429:
            return f"Gemini's rate limit is reached (429): try again later{quoted}"
        case 301 | 302 | 303 | 307 | 308:
            return f"Gemini's address redirects ({status}): check GOOGLE_GEMINI_BASE_URL."
        case _ if status >= 500:
            return f"Gemini is in trouble ({status}): try again later{quoted}"
        case _ if status < 400:
            return f"Gemini answered {status}, which is no answer to the call."
        case _:
            return f"Gemini refused the call ({status}){quoted}"


def quotable(text: str, key: Secret) -> str:
    """Text from outside as a part of one sentence: bounded, without control characters and without the key."""
    text = key.masked_in(text[:_READ_CHARACTERS])
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:_SAID_CHARACTERS]


def _is_about_the_key(status: int, said: _Said, content: bytes) -> bool:
    """Whether the key is refused, whatever was asked for: a 401, a 400 for one that Gemini does not know, a 403."""
    if status == 401 or (status in {400, 403} and b"API_KEY_INVALID" in content):
        return True
    return status == 403 and (
        any(_KEY_REASONS.fullmatch(reason) for reason in said.reasons)
        or _KEY_WORDS.search(said.message) is not None
    )


def _said(content: bytes) -> _Said:
    try:
        answer = msgspec.json.decode(content)
        error = (answer[0] if isinstance(answer, list) else answer)["error"]
        details = [each for each in error.get("details") or [] if isinstance(each, dict)]
        return _Said(
            str(error.get("message") or ""),
            str(error.get("status") or ""),
            tuple(str(each.get("reason")) for each in details),
            next((_seconds(each["retryDelay"]) for each in details if "retryDelay" in each), None),
        )
    except (msgspec.MsgspecError, UnicodeDecodeError, LookupError, TypeError, AttributeError, RecursionError):
        return _Said()


def _seconds(duration: object) -> float | None:
    """A protobuf Duration, such as 3.5s, which google.rpc.RetryInfo has."""
    found = re.fullmatch(r"([0-9]{1,6}(?:\.[0-9]{1,9})?)s", str(duration))
    return float(found[1]) if found else None


def _retry_after(headers: Mapping[str, str], delay: float | None = None) -> float | None:
    """How many seconds Gemini asks to wait, said as a number or as a date, or else in the error's details."""
    value = headers.get("retry-after", "")
    if not value:
        return delay
    if re.fullmatch(r"[0-9]{1,6}", value):
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return None
