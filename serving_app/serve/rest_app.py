"""The REST front end: one ASGI callable, behind the gateway's own listener and behind Serve's HTTP door alike.

Besides TensorFlow Serving's API it answers three paths of its own: `/healthz/live`, `/healthz/ready` (503 until every
configured model can be asked) and `/healthz/identity`, by which gateways that share a port recognise one another.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from functools import partial
from typing import Any
from urllib.parse import quote

from serving_app.config import GatewayConfig
from serving_app.core.errors import Cancelled, Code, Internal, InvalidArgument, ServingError
from serving_app.core.routing import RouteTable
from serving_app.core.signatures import DEFAULT_SIGNATURE
from serving_app.protocol import json_examples, json_predict, json_status, predict_checks, rest_url
from serving_app.protocol.calls import Call, total_bytes
from serving_app.protocol.example_requests import CLASSIFY_METHOD, REGRESS_METHOD, make_call
from serving_app.protocol.gzip_body import GzipBody
from serving_app.protocol.json_answer import encode_outputs
from serving_app.protocol.rest_status import error_answer, error_body
from serving_app.protocol.rest_url import RestAction, RestCall
from serving_app.serve.data_plane import DataPlane, work_on
from serving_app.serve.metrics_page import MetricsPage
from serving_app.serve.request_meter import Request, RequestMeter

logger = logging.getLogger("ray.serve")

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

Answer = tuple[int, bytes, list[tuple[bytes, bytes]]]
"""Status, body, and the headers that say more of it."""

_JSON = (b"content-type", b"application/json")
_PLAIN = (b"content-type", b"text/plain")
_CLOSE = (b"connection", b"close")
_CORS = (
    (b"access-control-allow-origin", b"*"),
    (b"access-control-allow-methods", b"POST, GET"),
    (b"access-control-allow-headers", b"Content-Type"),
)
_METHODS = {RestAction.CLASSIFY: CLASSIFY_METHOD, RestAction.REGRESS: REGRESS_METHOD}


class RestApp:
    """Answers HTTP requests from the data plane."""

    def __init__(
        self, plane: DataPlane, *, identity: Mapping[str, str], models: tuple[str, ...], settings: GatewayConfig,
        meter: RequestMeter | None = None, metrics: MetricsPage | None = None,
    ) -> None:
        """Without a meter nobody gets to know the counts, without a page of metrics there is none."""
        self._plane = plane
        self._meter = meter or RequestMeter()
        self._metrics = metrics
        self._identity = identity
        self._models = models
        self._settings = settings
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
            target = _raw_target(scope)
            if self._metrics is not None and self._metrics.is_at(target):
                status, body = await self._metrics.answer(target)
                headers = [_PLAIN]
            else:
                status, body, headers = await self._respond(target, scope, receive)
            headers.append((b"content-length", str(len(body)).encode()))
            if self.draining:
                headers.append(_CLOSE)
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": body})
        finally:
            self._in_flight -= 1

    async def _respond(self, target: str, scope: Scope, receive: Receive) -> Answer:
        method = scope["method"]
        if not rest_url.is_api_target(target):
            status, body = self._answer_own(method, target)
            return status, body, [_JSON]
        headers = [*_CORS] if self._settings.rest_cors else []
        if method == "OPTIONS":
            # Answered also without CORS, and without a body: 400 means that the origin is missing
            # (http_rest_api_handler.cc, as all of this).
            is_preflight = any(scheme in _header(scope, b"origin") for scheme in (b"http://", b"https://"))
            with self._meter.rest() as request:
                request.code = Code.OK if is_preflight else Code.FAILED_PRECONDITION
            return (200 if is_preflight else 400), b"", headers
        headers.append(_JSON)
        try:
            with self._meter.rest() as request:
                return 200, await self._answer(request, method, target, scope, receive), headers
        except ServingError as error:
            return *error_answer(error), headers
        except Exception as error:
            logger.exception("%s %s failed", method, target)
            return *error_answer(Internal(f"{type(error).__name__}: {error}")), headers

    async def _answer(self, request: Request, method: str, target: str, scope: Scope, receive: Receive) -> bytes:
        call = rest_url.parse(method, target)
        is_inference = call.action not in (RestAction.STATUS, RestAction.METADATA)
        request.name(call.spec.name, call.action.value if is_inference else "")
        if call.action is RestAction.STATUS:
            return json_status.encode_statuses(self._plane.statuses(call.spec))
        if call.action is RestAction.METADATA:
            return self._metadata(call)
        # A header that merely contains the word will do, as in evhttp_request.cc.
        is_packed = b"gzip" in _header(scope, b"content-encoding")
        read = self._read_packed_body if is_packed else self._read_body
        payload = await read(receive)
        request.restart()
        return await self._infer(call, payload)

    def _metadata(self, call: RestCall) -> bytes:
        with self._plane.route(call.spec) as route:
            return json_status.encode_metadata(route.servable.name, route.servable.version, route.signatures)

    async def _infer(self, call: RestCall, payload: bytes) -> bytes:
        if call.action is not RestAction.PREDICT:
            return await self._ask_about_examples(call, payload)
        size = len(payload)
        body = await work_on(size, partial(json_predict.parse_predict, payload))
        with self._plane.route(call.spec) as route:
            signature = json_predict.find_signature(body, route.signatures)
            inputs = await work_on(size, partial(json_predict.decode_inputs, body, signature))
            if self._settings.check_method_names:
                predict_checks.check_method(signature)
            run = Call(body.signature_name or DEFAULT_SIGNATURE, inputs, None, self._settings.request_timeout_s)
            outputs = await self._plane.run(route, run)
            encode = partial(encode_outputs, outputs, is_row=body.is_row, style=self._settings.json_text)
            return await work_on(total_bytes(outputs), encode)

    async def _ask_about_examples(self, call: RestCall, payload: bytes) -> bytes:
        """`:classify` and `:regress`."""
        parse = partial(json_examples.parse_examples, payload, call.spec, _METHODS[call.action])
        query = await work_on(len(payload), parse)
        settings = self._settings
        with self._plane.route(call.spec) as route:
            run = make_call(
                query, route.signatures, check_method_names=settings.check_method_names,
                timeout=settings.request_timeout_s,
            )
            outputs = await self._plane.run(route, run)
            encode = partial(json_examples.encode_results, query, run, outputs, style=settings.json_text)
            return await work_on(total_bytes(outputs), encode)

    async def _read_body(self, receive: Receive) -> bytes:
        parts = [part async for part in self._parts(receive)]
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def _read_packed_body(self, receive: Receive) -> bytes:
        """The body unpacked, piece by piece as it comes in, so that its packed form is never held as well."""
        body = GzipBody()
        async for part in self._parts(receive):
            # In a thread: a thousandth of what comes out may have come in.
            await asyncio.to_thread(body.feed, part)
        return body.finish()

    async def _parts(self, receive: Receive) -> AsyncIterator[bytes]:
        size, more = 0, True
        largest = self._settings.max_request_bytes
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Cancelled("the client went away before its request was complete")
            part: bytes = message.get("body", b"")
            size += len(part)
            if size > largest:
                raise InvalidArgument(f"the request body is larger than max_request_bytes ({largest})")
            more = message.get("more_body", False)
            yield part

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


def _header(scope: Scope, name: bytes) -> bytes:
    """The value of a request header, empty if there is none."""
    return next((value for key, value in scope["headers"] if key == name), b"")


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
