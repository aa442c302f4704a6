"""The REST front end: from a whole HTTP request to its whole answer, whoever carries them.

Besides TensorFlow Serving's API it answers three paths of its own: `/healthz/live`, `/healthz/ready` (503 until every
configured model can be asked) and `/healthz/identity`, by which gateways that share a port recognise one another. What
is below `/control` is another's affair, if there is one.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Mapping
from functools import partial
from typing import Any

from serving_app.config import GatewayConfig
from serving_app.core.errors import Code, Internal, InvalidArgument, ServingError
from serving_app.core.routing import Route, RouteTable
from serving_app.core.signatures import DEFAULT_SIGNATURE, Signature
from serving_app.protocol import gzip_body, json_examples, json_predict, json_status, predict_checks, rest_url
from serving_app.protocol.calls import Call, Outputs, total_bytes
from serving_app.protocol.example_requests import CLASSIFY_METHOD, REGRESS_METHOD, make_call
from serving_app.protocol.first_values import first_of_body, first_of_examples
from serving_app.protocol.json_answer import encode_outputs
from serving_app.protocol.json_predict import PredictBody
from serving_app.protocol.rest_status import error_answer, error_body
from serving_app.protocol.rest_url import RestAction, RestCall
from serving_app.serve.attributes import RequestAttributes
from serving_app.serve.control_app import ControlApp
from serving_app.serve.data_plane import LARGE_BYTES, DataPlane, work_on
from serving_app.serve.http_messages import Answer, Headers, HttpRequest
from serving_app.serve.metrics_page import MetricsPage
from serving_app.serve.request_meter import Request, RequestMeter

logger = logging.getLogger("ray.serve")

_JSON: Headers = ((b"content-type", b"application/json"),)
_PLAIN: Headers = ((b"content-type", b"text/plain"),)
_CORS: Headers = (
    (b"access-control-allow-origin", b"*"),
    (b"access-control-allow-methods", b"POST, GET"),
    (b"access-control-allow-headers", b"Content-Type"),
)
_METHODS = {RestAction.CLASSIFY: CLASSIFY_METHOD, RestAction.REGRESS: REGRESS_METHOD}


class RestApp:
    """Answers HTTP requests from the data plane."""

    def __init__(
        self, plane: DataPlane, *, identity: Mapping[str, str], models: tuple[str, ...], settings: GatewayConfig,
        meter: RequestMeter | None = None, metrics: MetricsPage | None = None, control: ControlApp | None = None,
    ) -> None:
        """Without a meter nobody gets to know the counts; what else is left away is not there."""
        self._plane = plane
        self._meter = meter or RequestMeter()
        self._metrics = metrics
        self._control = control
        self._identity = identity
        self._models = models
        self._settings = settings
        self.most_body_bytes = settings.max_request_bytes
        self._common = _CORS if settings.rest_cors else ()
        self._json = self._common + _JSON
        self._json_by_version: dict[str, Headers] = {}

    async def answer(self, request: HttpRequest) -> Answer:
        """The answer to one request. Raises nothing but CancelledError."""
        target = request.target
        measured = self._meter.rest()
        try:
            if self._metrics is not None and self._metrics.is_at(target):
                return Answer(*await asyncio.ensure_future(self._metrics.answer(target)), _PLAIN)
            if not rest_url.is_api_target(target):
                if self._control is not None and self._control.is_at(target):
                    return await asyncio.ensure_future(self._control.answer(request))
                return Answer(*self._answer_own(request.method, target), _JSON)
            if request.method == "OPTIONS":
                return self._answer_preflight(request)
            with measured:
                call = rest_url.parse(request.method, target)
                measured.name(call.spec.name, call.api)
                is_plain = len(request.body) <= LARGE_BYTES and not request.content_encoding
                if is_plain and call.action is RestAction.PREDICT:
                    body = await self._predict(call, request, request.body, measured)
                else:
                    body = await self._answer_api(call, request, measured)
                return Answer(200, body, self._headers_of(measured.version))
        except ServingError as error:
            return Answer(*error_answer(error), self._headers_of(measured.version))
        except Exception as error:
            logger.exception("%s %s failed", request.method, target)
            internal = Internal(f"{type(error).__name__}: {error}")
            return Answer(*error_answer(internal), self._headers_of(measured.version))

    def _headers_of(self, version: str) -> Headers:
        """The headers of an answer, which name the version that it is from, if it is from one."""
        if not version:
            return self._json
        headers = self._json_by_version.get(version)
        if headers is None:
            headers = self._json_by_version[version] = (*self._json, (b"x-model-version", version.encode()))
        return headers

    def refuse_body(self) -> Answer:
        """The answer to a request whose body is larger than `most_body_bytes`."""
        error = InvalidArgument(f"the request body is larger than max_request_bytes ({self.most_body_bytes})")
        with self._meter.rest() as measured:
            measured.code = error.code
        return Answer(*error_answer(error), self._json)

    def _answer_preflight(self, request: HttpRequest) -> Answer:
        # Answered also without CORS, and without a body: 400 means that the origin is missing
        # (http_rest_api_handler.cc, as all of this).
        is_preflight = any(scheme in request.origin for scheme in (b"http://", b"https://"))
        with self._meter.rest() as measured:
            measured.code = Code.OK if is_preflight else Code.FAILED_PRECONDITION
        return Answer(200 if is_preflight else 400, b"", self._common)

    async def _answer_api(self, call: RestCall, request: HttpRequest, measured: Request) -> bytes:
        if call.action is RestAction.STATUS:
            return json_status.encode_statuses(self._plane.statuses(call.spec))
        if call.action is RestAction.METADATA:
            return self._metadata(call, request, measured)
        body = request.body
        # A header that merely contains the word will do, as in evhttp_request.cc.
        if b"gzip" in request.content_encoding:
            # In a thread: a thousand times as much may come out.
            body = await asyncio.to_thread(gzip_body.unpack, body)
        if call.action is RestAction.PREDICT:
            return await (self._predict if len(body) <= LARGE_BYTES else self._predict_much)(
                call, request, body, measured
            )
        return await self._ask_about_examples(call, request, body, measured)

    def _metadata(self, call: RestCall, request: HttpRequest, measured: Request) -> bytes:
        with self._plane.route(call.spec, measured, RequestAttributes(request.fields)) as route:
            return json_status.encode_metadata(route.servable.name, route.servable.version, route.signatures)

    async def _predict(
        self, call: RestCall, request: HttpRequest, payload: bytes, measured: Request
    ) -> bytes:
        """`:predict` with a small body, which most have. What it does besides the run is not worth a thread."""
        body = json_predict.parse_predict(payload)
        attributes = RequestAttributes(request.fields, partial(first_of_body, body))
        with self._plane.route(call.spec, measured, attributes) as route:
            signature = json_predict.find_signature(body, route.signatures)
            outputs = await self._run(body, signature, json_predict.decode_inputs(body, signature), route, measured)
            if total_bytes(outputs) <= LARGE_BYTES:
                return encode_outputs(outputs, is_row=body.is_row, style=self._settings.json_text)
            return await self._encode_much(outputs, body)

    async def _predict_much(
        self, call: RestCall, request: HttpRequest, payload: bytes, measured: Request
    ) -> bytes:
        """The same with a large body."""
        body = await asyncio.to_thread(json_predict.parse_predict, payload)
        attributes = RequestAttributes(request.fields, partial(first_of_body, body))
        with self._plane.route(call.spec, measured, attributes) as route:
            signature = json_predict.find_signature(body, route.signatures)
            inputs = await asyncio.to_thread(json_predict.decode_inputs, body, signature)
            outputs = await self._run(body, signature, inputs, route, measured)
            return await self._encode_much(outputs, body)

    def _run(
        self, body: PredictBody, signature: Signature, inputs: Mapping[str, Any], route: Route, measured: Request
    ) -> Awaitable[Outputs]:
        if self._settings.check_method_names:
            predict_checks.check_method(signature)
        name = body.signature_name or DEFAULT_SIGNATURE
        return self._plane.run(route, Call(name, inputs, None, self._settings.request_timeout_s), measured)

    async def _encode_much(self, outputs: Outputs, body: PredictBody) -> bytes:
        encode = partial(encode_outputs, outputs, is_row=body.is_row, style=self._settings.json_text)
        return await work_on(total_bytes(outputs), encode)

    async def _ask_about_examples(
        self, call: RestCall, request: HttpRequest, payload: bytes, measured: Request
    ) -> bytes:
        """`:classify` and `:regress`."""
        parse = partial(json_examples.parse_examples, payload, call.spec, _METHODS[call.action])
        query = await work_on(len(payload), parse)
        settings = self._settings
        attributes = RequestAttributes(request.fields, partial(first_of_examples, query.examples))
        with self._plane.route(call.spec, measured, attributes) as route:
            run = make_call(
                query, route.signatures, check_method_names=settings.check_method_names,
                timeout=settings.request_timeout_s,
            )
            outputs = await self._plane.run(route, run, measured)
            encode = partial(json_examples.encode_results, query, run, outputs, style=settings.json_text)
            return await work_on(total_bytes(outputs), encode)

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
