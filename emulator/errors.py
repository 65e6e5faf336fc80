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
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


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
