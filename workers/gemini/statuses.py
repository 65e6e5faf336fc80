"""What Gemini's answers mean: one table from status to error, each error a sentence for a person. Pure."""

import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from enum import StrEnum

import msgspec

from workers.errors import GeminiUnavailable, KeyRefused, Permanent, ResultsGone, Unreadable, WorkerError
from workers.gemini.access import Secret

_HEALS = {408, 425, 429, 500, 502, 503, 504}
_READ_CHARACTERS = 10_000
_SAID_CHARACTERS = 300


class About(StrEnum):
    """What is asked for: it decides what a 404 means, and a 403."""

    BATCH = "batch"
    FILE = "file"
    LIST = "list"
    WEBHOOK = "webhook"


def error_of(
    status: int, headers: Mapping[str, str], content: bytes, about: About, key: Secret
) -> WorkerError:
    """The error that an answer other than 200 stands for. Its sentence quotes Gemini's own, never the `key`."""
    said = _said(content, key)
    quoted = f": {said.rstrip('.')}." if said else "."
    key_refused = KeyRefused(f"Gemini refused the API key ({status}), check GEMINI_API_KEY{quoted}")
    if _is_about_the_key(status, content):
        return key_refused
    match status, about:
        case 403 | 404, About.BATCH:
            return Unreadable("This key can't read the batch: it is another project's, revoked or deleted.")
        case 403 | 404, About.FILE:
            return ResultsGone("The result file is gone: Gemini keeps results for 48 hours only.")
        case 403, _:
            return key_refused
        case 404, _:
            sentence = f"Gemini knows no such {about} (404){quoted}"
        case 409, _:
            sentence = f"Gemini refused it as a conflict with what exists (409){quoted}"
        case 429, _:
            sentence = f"Gemini's rate limit is reached (429): try again later{quoted}"
        case _ if status >= 500:
            sentence = f"Gemini is in trouble ({status}): try again later{quoted}"
        case _ if 300 <= status < 400:
            sentence = f"Gemini's address redirects ({status}): check GOOGLE_GEMINI_BASE_URL."
        case _:
            sentence = f"Gemini refused the call ({status}){quoted}"
    return GeminiUnavailable(sentence, _retry_after(headers)) if status in _HEALS else Permanent(sentence)


def quotable(text: str, key: Secret) -> str:
    """Text from outside as a part of one sentence: bounded, without control characters and without the key."""
    text = key.masked_in(text[:_READ_CHARACTERS])
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:_SAID_CHARACTERS]


def _is_about_the_key(status: int, content: bytes) -> bool:
    """401, and the 400 that Gemini gives for a key it does not know (reason API_KEY_INVALID)."""
    return status == 401 or (status in {400, 403} and b"API_KEY_INVALID" in content)


def _said(content: bytes, key: Secret) -> str:
    """Gemini's own sentence in an error; empty where there is none."""
    try:
        return quotable(str(msgspec.json.decode(content)["error"]["message"]), key)
    except (msgspec.MsgspecError, UnicodeDecodeError, LookupError, TypeError, RecursionError):
        return ""


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """How many seconds Gemini asks to wait, said as a number or as a date."""
    value = headers.get("retry-after", "")
    if re.fullmatch(r"[0-9]{1,6}", value):
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return None
