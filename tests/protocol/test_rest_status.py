"""Outcomes over HTTP."""

from __future__ import annotations

import json

import pytest

from serving_app.core.errors import Code, InvalidArgument, NotFound, RuntimeFailure, ServingError
from serving_app.protocol.rest_status import error_answer, error_body, http_status
from serving_app.protocol.rest_url import UnreadablePart

STATUSES = {
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


@pytest.mark.parametrize("code", Code)
def test_every_code_has_its_http_status(code: Code):
    """Each canonical code has the HTTP status that TensorFlow Serving gives it."""
    assert http_status(code) == STATUSES[code]


def test_a_number_that_is_no_code_is_an_internal_error():
    """Numbers outside the table are 500."""
    assert http_status(99) == 500


@pytest.mark.parametrize(
    ("message", "body"),
    [
        ("no such model", b'{\n    "error": "no such model"\n}'),
        ('say "x"\n\\ \x01\x1f', b'{\n    "error": "say \\"x\\"\\n\\\\ \\u0001\\u001F"\n}'),
        ("grün/ß", '{\n    "error": "grün/ß"\n}'.encode()),
        ("raw \udcff byte", '{\n    "error": "raw \ufffd byte"\n}'.encode()),
        ("", b'{\n    "error": ""\n}'),
        ("x" * (1 << 16), b'{\n    "error": "' + b"x" * (1 << 16) + b'"\n}'),
        ("\n" * ((1 << 16) + 1), b'{\n    "error": "' + b"\\n" * (1 << 16) + b'...TRUNCATED"\n}'),
    ],
    ids=range(7),
)
def test_an_error_body_is_an_indented_object(message: str, body: bytes):
    """The body holds the message alone, as JSON that every parser accepts."""
    assert error_body(message) == body
    assert isinstance(json.loads(body)["error"], str)


@pytest.mark.parametrize(
    ("error", "status", "body"),
    [
        (NotFound("gone"), 404, error_body("gone")),
        (InvalidArgument("bad"), 400, error_body("bad")),
        (RuntimeFailure(Code.DEADLINE_EXCEEDED, "late"), 504, error_body("late")),
        (ServingError("odd"), 500, error_body("odd")),
        (UnreadablePart("big"), 400, b""),
    ],
)
def test_an_error_becomes_status_and_body(error: ServingError, status: int, body: bytes):
    """An error is answered with the status of its code and its message, or with nothing where TFS sends nothing."""
    assert error_answer(error) == (status, body)
