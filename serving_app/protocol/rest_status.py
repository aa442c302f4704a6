"""How an outcome looks over HTTP: a status number, and for errors a body."""

from __future__ import annotations

from collections.abc import Mapping

from serving_app.core.errors import Code, ServingError
from serving_app.protocol import json_text
from serving_app.protocol.grpc_methods import TRUNCATED
from serving_app.protocol.rest_url import UnreadablePart

# http_rest_api_util.cc, ToHTTPStatusCode; 499 is nginx's "client closed request".
HTTP_STATUS: Mapping[Code, int] = {
    Code.OK: 200,
    Code.CANCELLED: 499,
    Code.UNKNOWN: 500,
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.PERMISSION_DENIED: 403,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 400,
    Code.ABORTED: 409,
    Code.OUT_OF_RANGE: 400,
    Code.UNIMPLEMENTED: 501,
    Code.INTERNAL: 500,
    Code.UNAVAILABLE: 503,
    Code.DATA_LOSS: 500,
    Code.UNAUTHENTICATED: 401,
}


def http_status(code: int) -> int:
    """The HTTP status for a canonical code; 500 for numbers that are none."""
    return HTTP_STATUS.get(code, 500)  # type: ignore[call-overload, no-any-return]


LONGEST_MESSAGE = 1 << 16
"""Characters of an error message. More there are only where it quotes a name out of a request that was made to hurt."""


def error_body(message: str) -> bytes:
    """The body of an error answer. Bytes of the request that were no UTF-8 appear as U+FFFD, so that it is JSON."""
    if len(message) > LONGEST_MESSAGE:
        message = message[:LONGEST_MESSAGE] + TRUNCATED
    readable = message.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return b'{\n    "error": ' + json_text.string_text(readable.encode()) + b"\n}"


def error_answer(error: ServingError) -> tuple[int, bytes]:
    """Status and body for an error that ended a REST request."""
    body = b"" if isinstance(error, UnreadablePart) else error_body(error.message)
    return http_status(error.code), body
