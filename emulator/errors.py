"""Errors in Google's shape: `{"error": {"code", "message", "status", "details"}}`."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

STATUS_NAMES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    405: "UNIMPLEMENTED",
    409: "ALREADY_EXISTS",
    413: "INVALID_ARGUMENT",
    416: "OUT_OF_RANGE",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


_RPC = "type.googleapis.com/google.rpc."


class ApiError(Exception):
    """A refusal that the caller reads as Google's error document.

    `code` is the HTTP status, `details` the typed messages that Google adds to some errors.
    """

    def __init__(
        self,
        code: int,
        message: str,
        *,
        details: Sequence[Mapping[str, Any]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = STATUS_NAMES.get(code, "UNKNOWN")
        self.details = details
        self.headers = headers


def bad_request(message: str) -> ApiError:
    return ApiError(400, message)


def not_found() -> ApiError:
    return ApiError(404, "Requested entity was not found.")


def quota_exceeded() -> ApiError:
    return refusal("quota")


def _about_key(message: str, reason: str | None = None) -> tuple[int, str, list[dict[str, Any]]]:
    info = {"@type": f"{_RPC}ErrorInfo", "reason": reason, "domain": "googleapis.com"}
    return 403, message, [info] if reason else []


_QUOTA = "generativelanguage.googleapis.com/batch_enqueued_tokens"
_REFUSALS: dict[str, tuple[int, str, list[dict[str, Any]]]] = {
    "leaked": _about_key("Your API key was reported as leaked. Please use another API key."),
    "suspended": _about_key(
        "Permission denied: Consumer 'api_key:REDACTED' has been suspended.", "CONSUMER_SUSPENDED"
    ),
    "service_disabled": _about_key(
        "Generative Language API has not been used in project 1 before or it is disabled.", "SERVICE_DISABLED"
    ),
    "service_blocked": _about_key("Requests to this API are blocked.", "API_KEY_SERVICE_BLOCKED"),
    "ip_blocked": _about_key(
        "The provided API key has an IP address restriction.", "API_KEY_IP_ADDRESS_BLOCKED"
    ),
    "referrer_blocked": _about_key(
        "Requests from referer <empty> are blocked.", "API_KEY_HTTP_REFERRER_BLOCKED"
    ),
    "file_gone": (403, "You do not have permission to access the File batch-x or it may not exist.", []),
    "cancelled": (499, "The operation was cancelled.", []),
    "quota": (
        429,
        "You exceeded your current quota, please check your plan and billing details.",
        [
            {
                "@type": f"{_RPC}QuotaFailure",
                "violations": [{"quotaMetric": _QUOTA, "quotaId": "BatchEnqueuedTokensPerProjectPerModel"}],
            },
            {"@type": f"{_RPC}RetryInfo", "retryDelay": "1s"},
        ],
    ),
}
REFUSALS = tuple(_REFUSALS)


def refusal(name: str, headers: Mapping[str, str] | None = None) -> ApiError:
    """One of `REFUSALS`, in the words that Google has been seen to use. Raises ApiError (400) for another name."""
    if name not in _REFUSALS:
        raise bad_request(f"A refusal is one of {', '.join(REFUSALS)}.")
    code, message, details = _REFUSALS[name]
    return ApiError(code, message, details=details, headers=headers)


def error_response(error: ApiError) -> Response:
    document: dict[str, Any] = {"code": error.code, "message": error.message, "status": error.status}
    if error.details:
        document["details"] = list(error.details)
    body = json.dumps({"error": document}, indent=2).encode()
    return Response(body, error.code, error.headers, media_type="application/json")


async def answer_api_error(_request: Request, error: Exception) -> Response:
    """For Starlette: our refusals, and its own of paths and methods that nobody serves."""
    if isinstance(error, ApiError):
        return error_response(error)
    code = error.status_code if isinstance(error, HTTPException) else 500
    return error_response(ApiError(code, "The requested URL was not found on this server."))
