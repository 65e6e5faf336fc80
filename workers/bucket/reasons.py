"""What an object store's refusal means: obstore's texts as errors of ours, in a sentence for a person.

Nothing of a text is passed on but a status and a code: it holds URLs, which may be signed, and values of settings.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from obstore.exceptions import NotSupportedError, PermissionDeniedError, UnauthenticatedError

from workers.bucket.access import ENDPOINTS, KINDS, PREFIXES
from workers.bucket.protocol import BucketRefused, Misdirected, NameTooLong, NoCredentials
from workers.errors import BucketUnavailable, WorkerError

_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>([\w.]{1,64})</Code>|\(code: ([\w.]{1,64})\)")
_MACHINE_CREDENTIALS = re.compile(r"http://(169\.254\.\d+\.\d+|metadata\.google\.internal)/")
_ELSEWHERE = {
    "PermanentRedirect",
    "AuthorizationHeaderMalformed",
    "IllegalLocationConstraintException",
    "InvalidRegion",
}
_ABSENT = {"NoSuchBucket", "ContainerNotFound"}
_NO_NAMES = {"InvalidBucketName", "InvalidResourceName"}
_OF_THE_CLOCK = {"RequestTimeTooSkewed", "RequestExpired"}
# What a store says at times that is no matter of settings.
_PASSING_STATUSES = {"408", "409", "412", "425", "429"}
_PASSING_CODES = {
    *("BadDigest", "IncompleteBody", "RequestTimeout", "XAmzContentSHA256Mismatch"),
    *(
        "NoSuchUpload",
        "InvalidPart",
        "InvalidPartOrder",
        "InvalidBlockList",
        "InvalidBlobOrBlock",
        "Md5Mismatch",
    ),
}
_REFUSING_STATUSES = {"401", "403"}
_REFUSING_CODES = {
    "AccessDenied",
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidAuthenticationInfo",
    "InvalidIdentityToken",
    "InvalidToken",
    "MalformedSecurityHeader",
    "MissingSecurityHeader",
    "PublicAccessNotPermitted",
    "TokenRefreshRequired",
}
_NOT_OFFERED_STATUSES = {"405", "501"}
_NOT_OFFERED_CODES = {
    "InvalidArgument",
    "InvalidRequest",
    "MalformedXML",
    "NotImplemented",
    "UnsupportedHeader",
}
_PERMISSIONS = {
    "s3": {
        "read": "s3:GetObject",
        "write": "s3:PutObject",
        "list": "s3:ListBucket",
        "delete": "s3:DeleteObject",
    },
    "gs": {
        "read": "storage.objects.get",
        "write": "storage.objects.create and, to replace, storage.objects.delete",
        "list": "storage.objects.list",
        "delete": "storage.objects.delete",
    },
}
_CREDENTIALS = {
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (AWS_PROFILE and ~/.aws are not read)",
    "gs": "set GOOGLE_APPLICATION_CREDENTIALS",
    "az": "set AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN",
}
# In the order of looking. Each has a space, which no name in a URL has: a key may well be called "redirect".
_SIGNS = (
    ("not known", "its host was not found"),
    ("No address associated", "its host was not found"),
    ("dns error", "its host was not found for now"),
    (": InvalidCertificate", "its certificate is not trusted: SSL_CERT_FILE may name a file of more"),
    ("invalid peer certificate: ", "its certificate is not trusted: SSL_CERT_FILE may name a file of more"),
    ("InvalidMessage(", "it does not speak TLS"),
    ("timed out", "it timed out"),
    (": TimedOut", "it timed out"),
    ("error sending request", "no connection"),
    ("response body error", "its answer was cut off"),
    (": IncompleteMessage", "its answer was cut off"),
    ("ETag Header missing", "its answer names no ETag"),
    ("Header missing", "its answer lacks a header"),
    ("Received redirect", "it sends elsewhere"),
    ("following redirect", "it sends elsewhere"),
    ("precondition failure", "the object has changed meanwhile"),
    ("invalid list response", "its listing can't be read"),
    ("response:", "its answer can't be read"),
    ("URL scheme is not allowed", "plain http is refused"),
    ("builder error", "its address can't be used"),
    ("connection ", "the connection broke"),
)
_OF_SETTINGS = {
    *("its host was not found", "it does not speak TLS", "it sends elsewhere", "plain http is refused"),
    *("its address can't be used", "its answer names no ETag", "its listing can't be read"),
}
_OF_ADDRESSES = {*_OF_SETTINGS, "its host was not found for now", "no connection"}


class Lack(StrEnum):
    """What a store may lack, each with the sentence that says how it is done without."""

    CONDITIONS = (
        "{url} knows no conditions: a look before and after makes sure that an object is created once, "
        "which two workers at the very same moment can defeat."
    )
    BULK_DELETION = (
        "{url} deletes no lists of objects: they are deleted one by one; "
        "AWS_DISABLE_BULK_DELETE=true saves the attempt."
    )
    COPYING = "{url} does not copy objects: their bytes pass through the worker."


class Lacking:
    """What one store has turned out to lack."""

    def __init__(self, url: str, remarks: Iterable[str]) -> None:
        """`remarks`: what is to be said of it besides."""
        self._url = url
        self._remarks = tuple(remarks)
        self._found: list[Lack] = []

    @property
    def remarks(self) -> Sequence[str]:
        return (*self._remarks, *(lack.format(url=self._url) for lack in self._found))

    def note(self, lack: Lack) -> None:
        if lack not in self._found:
            self._found.append(lack)

    def __contains__(self, lack: Lack) -> bool:
        return lack in self._found


@dataclass(frozen=True, slots=True)
class Place:
    """A bucket as errors speak of it."""

    url: str
    scheme: str
    credentials: tuple[str, ...] = ()
    """The variables that they come from; none where they are the machine's."""
    addresses: tuple[str, ...] = ()
    """The variables that say where it is."""


def status_of(error: BaseException) -> str | None:
    """The HTTP status behind an error, if there was one."""
    found = _STATUS.search(str(error))
    return found[1] if found else None


def code_of(error: BaseException) -> str | None:
    """What the store itself calls it, if it said so."""
    found = _CODE.search(str(error))
    return found[1] or found[2] if found else None


def is_not_offered(error: BaseException) -> bool:
    """Whether the store may lack what was asked for, so that another way is worth a try."""
    if isinstance(error, NotSupportedError) or status_of(error) in _NOT_OFFERED_STATUSES:
        return True
    return code_of(error) in _NOT_OFFERED_CODES


def is_refused(error: BaseException) -> bool:
    """Whether the store knows the request and won't have it from us."""
    if isinstance(error, PermissionDeniedError | UnauthenticatedError):
        return True
    return status_of(error) in _REFUSING_STATUSES or code_of(error) in _REFUSING_CODES


def may_heal(error: BaseException) -> bool:
    """Whether the same request is worth repeating at once: the network, or a server in trouble."""
    if isinstance(error, FileNotFoundError) or is_refused(error) or is_not_offered(error):
        return False
    status = status_of(error)
    return status is None or status in {"408", "429"} or status >= "500"


def is_panic(error: BaseException) -> bool:
    """Whether Rust gave up: pyo3 makes that a BaseException of a class that can't be imported."""
    return type(error).__name__ == "PanicException"


def translation(error: BaseException, place: Place, doing: str) -> WorkerError:
    """The error to raise.

    Args:
        error: obstore's.
        place: the bucket.
        doing: "read", "write", "list" or "delete".
    """
    url, text, code = place.url, str(error), code_of(error)
    reason = " ".join(found for found in (status_of(error), code) if found)
    where = " and ".join(place.addresses) or ENDPOINTS[place.scheme]
    if is_panic(error):
        return BucketRefused(
            f"{url} can't be reached with these settings: check {where}, the region and the keys."
        )
    if _MACHINE_CREDENTIALS.search(text):
        return NoCredentials(
            f"No credentials for {url}: {_CREDENTIALS[place.scheme]}, or run where the cloud gives some to the machine."
        )
    if place.scheme == "s3" and code in _ELSEWHERE:
        return BucketRefused(f"{url} is in another region: set AWS_REGION to the bucket's own.")
    is_elsewhere = "Received redirect" in text or "following redirect" in text or reason.startswith("3")
    if place.scheme == "s3" and is_elsewhere:
        return BucketRefused(
            f"{url} is in another region, or elsewhere: set AWS_REGION to the bucket's own, and check {where}."
        )
    if code in _ABSENT:
        return BucketRefused(
            f"{url} does not exist: create the {KINDS[place.scheme]}, or correct STORAGE_URL."
        )
    if code in _NO_NAMES:
        return BucketRefused(
            f"{url} names no {KINDS[place.scheme]} that can be ({reason}): correct STORAGE_URL."
        )
    if code in _OF_THE_CLOCK:
        return BucketRefused(f"{url} says that this machine's clock is wrong ({reason}): set it.")
    if is_refused(error) or ("token request" in text and reason.startswith("4")):
        return _refusal(place, doing, reason)
    if doing == "list" and status_of(error) == "404":
        variable = ENDPOINTS[place.scheme]
        return BucketRefused(
            f"{url} can't be listed ({reason}): check that {variable} ends before the bucket."
        )
    if code == "KeyTooLongError":
        return NameTooLong(f"A name is too long for {url}: shorten the key, or the prefix in STORAGE_URL.")
    words = reason or first_words(error)
    said = f"{url} did not answer as it should ({words})"
    if reason.startswith("4") and reason[:3] not in _PASSING_STATUSES and code not in _PASSING_CODES:
        return Misdirected(
            f"{said}: check STORAGE_URL, {where} and all that begins with {PREFIXES[place.scheme]}."
        )
    if words in _OF_SETTINGS or "certificate" in words:
        return Misdirected(f"{said}: check {where}.")
    return BucketUnavailable(f"{said}: check {where}." if words in _OF_ADDRESSES else f"{said}.")


def no_etag(place: Place) -> Misdirected:
    """What an answer with a 200 is that comes from no store."""
    where = " and ".join(place.addresses)
    return Misdirected(f"{place.url} did not answer as it should (its answer names no ETag): check {where}.")


def _refusal(place: Place, doing: str, reason: str) -> BucketRefused:
    permission = _PERMISSIONS.get(place.scheme, {}).get(doing, "Storage Blob Data Contributor")
    region = ", AWS_REGION" if place.scheme == "s3" else ""
    origin = " and ".join(place.credentials) or "the machine's role, as no variable names a key"
    return BucketRefused(
        f"{place.url} refused our credentials to {doing} ({reason or 'permission denied'}): "
        f"check {origin}, the permissions ({permission}){region} and the clock."
    )


def first_words(error: BaseException) -> str:
    """What kind of error it is, with nothing of its text that could be a URL or a value."""
    text = str(error)
    return next((words for sign, words in _SIGNS if sign in text), "it gave no reason")
