"""Reading control requests: which operation is asked for, by whom, and what the request says. No IO."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qsl, unquote

from serving_app.config.control import Nothing, read_body
from serving_app.core.errors import InvalidArgument
from serving_app.serve.control_operations import MOST_DIGITS, OPERATIONS, PARAMETERS, Asked, Operation
from serving_app.serve.control_tokens import Tokens
from serving_app.serve.http_messages import Headers, HttpRequest

PREFIX = "/control"
MOST_BODY_BYTES = 1 << 20
_MOST_PARAMETERS = 16
"""In a query, of which more would only cost time to read."""


class Refused(Exception):
    """A request that HTTP itself has a status for."""

    def __init__(self, status: int, message: str, headers: Headers = ()) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = headers


def is_control_target(target: str) -> bool:
    """Whether control endpoints are responsible for this path and query."""
    return target.startswith(f"{PREFIX}/") or target.partition("?")[0] == PREFIX


def find_operation(method: str, path: str) -> tuple[Operation, dict[str, str]]:
    """The operation at a path, and the parts of the path that its parameters are, as they were sent.

    Raises Refused where there is none: with 405 if there is one for another method.
    """
    segments = path.removeprefix(f"{PREFIX}/v1/").split("/") if path.startswith(f"{PREFIX}/v1/") else []
    found = [(each, parts) for each in OPERATIONS if (parts := _match(each.segments, segments)) is not None]
    for operation, parts in found:
        if operation.method == ("GET" if method == "HEAD" else method):
            return operation, parts
    if not found:
        raise Refused(404, f"Not found: {path}. {PREFIX}/ tells what there is.")
    methods = [operation.method for operation, _ in found]
    raise refuse_method(method, path, ["GET", "HEAD", *methods[1:]] if methods[0] == "GET" else methods)


def refuse_method(method: str, path: str, methods: Sequence[str]) -> Refused:
    """What is said to a request whose method is none of those that a path knows."""
    allowed = ", ".join(methods)
    return Refused(405, f"{method} is not offered at {path}; use {allowed}", ((b"allow", allowed.encode()),))


def _match(pattern: Sequence[str], segments: Sequence[str]) -> dict[str, str] | None:
    if len(pattern) != len(segments) or "" in segments:
        return None
    parts = {}
    for expected, segment in zip(pattern, segments, strict=True):
        if expected.startswith("{"):
            parts[expected[1:-1]] = segment
        elif expected != segment:
            return None
    return parts


def check_token(request: HttpRequest, tokens: Tokens) -> None:
    """Raise Refused unless the request shows a token that is accepted."""
    given = [value for name, value in request.fields if name.lower() == b"authorization"]
    scheme, _, token = given[0].partition(b" ") if len(given) == 1 else (b"", b"", b"")
    if scheme.lower() == b"bearer" and tokens.accept(token.strip(b" ")):
        return
    hint = b', error="invalid_token"' if given else b""
    said = "this one is not accepted" if given else "there is none"
    raise Refused(
        401, f"To change something, show a token of gateway.control_token_file: `Authorization: Bearer TOKEN`; {said}",
        ((b"www-authenticate", b'Bearer realm="serving_app"' + hint),),
    )


def read_request(operation: Operation, parts: dict[str, str], query: str, request: HttpRequest) -> Asked:
    """What a request says. Raises Refused and InvalidArgument, which names what is wrong."""
    parameters = {name: _read(name, _decode(name, text)) for name, text in parts.items()}
    parameters |= _read_query(operation, query)
    if not request.body and operation.body is Nothing:
        return Asked(parameters, Nothing(), {})
    if not operation.is_order:  # it is not even read: who asks has shown no token
        raise InvalidArgument(f"{operation.method} takes no body here; leave it away")
    if len(request.body) > MOST_BODY_BYTES:
        raise Refused(413, f"the body has {len(request.body)} bytes; at most {MOST_BODY_BYTES} are taken here")
    if request.content_encoding not in (b"", b"identity"):
        raise Refused(415, "the body is packed; send it as it is, without Content-Encoding")
    if not _is_json(request):
        raise Refused(415, "the body must be JSON; send it with `Content-Type: application/json`")
    body, written = read_body(request.body, operation.body)
    return Asked(parameters, body, written)


def _read_query(operation: Operation, query: str) -> dict[str, Any]:
    try:
        pairs = parse_qsl(
            query, keep_blank_values=True, strict_parsing=True, errors="strict", max_num_fields=_MOST_PARAMETERS
        ) if query else []  # fmt: skip
    except ValueError as error:
        raise InvalidArgument(f"the query {query!r} cannot be read: {error}") from error
    found: dict[str, Any] = {}
    for name, text in pairs:
        if name not in operation.query:
            known = ", ".join(operation.query) or "none"
            raise InvalidArgument(f"there is no parameter {name!r} in the query here; those that there are: {known}")
        if name in found:
            raise InvalidArgument(f"{name} stands twice in the query; leave one of them away")
        found[name] = _read(name, text)
    return found


def _decode(name: str, segment: str) -> str:
    try:
        text = unquote(segment, errors="strict")
        text.encode()
    except UnicodeError as error:
        raise InvalidArgument(f"{name}: {segment!r} is no UTF-8 when its escapes are read") from error
    return text


def _read(name: str, text: str) -> Any:
    if PARAMETERS[name].kind is str:
        return text
    if not (text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS):
        raise InvalidArgument(f"{name}: {text!r} is no number of one")
    return int(text)


def _is_json(request: HttpRequest) -> bool:
    kinds = [value for name, value in request.fields if name.lower() == b"content-type"]
    return len(kinds) == 1 and kinds[0].partition(b";")[0].strip().lower() == b"application/json"
