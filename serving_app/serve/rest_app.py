"""The REST front end: one ASGI callable, behind the gateway's own listener and behind Serve's HTTP door alike.

Besides TensorFlow Serving's API it answers three paths of its own: `/healthz/live`, `/healthz/ready` (503 until every
configured model can be asked) and `/healthz/identity`, by which gateways that share a port recognise one another.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any
from urllib.parse import quote

from serving_app.core.errors import Cancelled, Internal, InvalidArgument, ServingError, Unimplemented
from serving_app.core.routing import RouteTable
from serving_app.core.signatures import DEFAULT_SIGNATURE
from serving_app.protocol import json_predict, json_status, rest_url
from serving_app.protocol.calls import Call
from serving_app.protocol.rest_status import error_answer, error_body
from serving_app.protocol.rest_url import RestAction, RestCall
from serving_app.serve.data_plane import LARGE_BYTES, DataPlane

logger = logging.getLogger("ray.serve")

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_JSON = (b"content-type", b"application/json")
_CLOSE = (b"connection", b"close")


class RestApp:
    """Answers HTTP requests from the data plane."""

    def __init__(
        self, plane: DataPlane, *, identity: Mapping[str, str], models: tuple[str, ...], timeout: float | None,
        max_request_bytes: int,
    ) -> None:
        self._plane = plane
        self._identity = identity
        self._models = models
        self._timeout = timeout
        self._max_request_bytes = max_request_bytes
        self._in_flight = 0
        self.draining = False

    @property
    def is_idle(self) -> bool:
        """Whether no request is being answered."""
        return self._in_flight == 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request (or the start and the end of the server)."""
        if scope["type"] == "lifespan":
            await _acknowledge_lifespan(receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1003})
            return
        self._in_flight += 1
        try:
            status, body = await self._respond(scope, receive)
            headers = [_JSON, (b"content-length", str(len(body)).encode())]
            if self.draining:
                headers.append(_CLOSE)
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": body})
        finally:
            self._in_flight -= 1

    async def _respond(self, scope: Scope, receive: Receive) -> tuple[int, bytes]:
        method, target = scope["method"], _raw_target(scope)
        try:
            if not rest_url.is_api_target(target):
                return self._answer_own(method, target)
            call = rest_url.parse(method, target)
            if call.action is RestAction.STATUS:
                return 200, json_status.encode_statuses(self._plane.statuses(call.spec))
            if call.action is RestAction.METADATA:
                return 200, self._metadata(call)
            return 200, await self._infer(call, await self._read_body(receive))
        except ServingError as error:
            return error_answer(error)
        except Exception as error:
            logger.exception("%s %s failed", method, target)
            return error_answer(Internal(f"{type(error).__name__}: {error}"))

    def _metadata(self, call: RestCall) -> bytes:
        with self._plane.route(call.spec) as route:
            return json_status.encode_metadata(route.servable.name, route.servable.version, route.signatures)

    async def _infer(self, call: RestCall, payload: bytes) -> bytes:
        if call.action is not RestAction.PREDICT:
            raise Unimplemented(f":{call.action.value} is not offered yet; call :predict")
        is_large = len(payload) > LARGE_BYTES
        parse, decode = json_predict.parse_predict, json_predict.decode_inputs
        body = await asyncio.to_thread(parse, payload) if is_large else parse(payload)
        with self._plane.route(call.spec) as route:
            signature = json_predict.find_signature(body, route.signatures)
            inputs = await asyncio.to_thread(decode, body, signature) if is_large else decode(body, signature)
            run = Call(body.signature_name or DEFAULT_SIGNATURE, inputs, None, self._timeout)
            outputs = await self._plane.run(route, run)
            return json_predict.encode_outputs(body, outputs)

    async def _read_body(self, receive: Receive) -> bytes:
        parts: list[bytes] = []
        size, more = 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Cancelled("the client went away before its request was complete")
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > self._max_request_bytes:
                raise InvalidArgument(f"the request body is larger than max_request_bytes ({self._max_request_bytes})")
            more = message.get("more_body", False)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _answer_own(self, method: str, target: str) -> tuple[int, bytes]:
        path = target.partition("?")[0]
        if method in ("GET", "HEAD"):
            if path == "/healthz/live":
                return 200, b"{}"
            if path == "/healthz/identity":
                return 200, json.dumps(self._identity).encode()
            if path == "/healthz/ready":
                return self._readiness()
        return 404, error_body(f"Not found: {path}. Models are under /v1/models/NAME.")

    def _readiness(self) -> tuple[int, bytes]:
        waiting = [name for name in self._models if not is_answering(self._plane.table, name)]
        return (503 if waiting else 200), json.dumps({"ready": not waiting, "waiting_for": waiting}).encode()


def is_answering(table: RouteTable, model: str) -> bool:
    """Whether some version of the model can be asked."""
    return bool(table.models.get(model) and table.models[model].routes)


def _raw_target(scope: Scope) -> str:
    """The request target as it was sent: path, undecoded, and query string."""
    raw: bytes | None = scope.get("raw_path")
    # Serve's door hands the path over with the prefix under which the application hangs there.
    path = (raw if raw else quote(scope["path"]).encode()).removeprefix(quote(scope.get("root_path", "")).encode())
    query: bytes = scope.get("query_string", b"")
    # Servers differ in whether raw_path carries the query string.
    target = path + b"?" + query if query and b"?" not in path else path
    return target.decode("utf-8", "surrogateescape")


async def _acknowledge_lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
