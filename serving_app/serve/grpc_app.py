"""The gRPC front end: the same data plane as REST, behind TensorFlow Serving's services.

It answers bytes with bytes, and knows nothing of sockets: see grpc_connection.py for those.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from functools import partial
from typing import Any

from serving_app.config import GatewayConfig
from serving_app.core.errors import ServingError, as_serving_error
from serving_app.core.families import first_value
from serving_app.core.signatures import DEFAULT_SIGNATURE
from serving_app.protocol import (
    example_requests,
    example_results,
    grpc_methods,
    predict_checks,
    predict_proto,
    reflection_proto,
    reload_proto,
    status_proto,
)
from serving_app.protocol.calls import Call, total_bytes
from serving_app.protocol.first_values import first_of_examples, first_of_inputs
from serving_app.serve.attributes import RequestAttributes
from serving_app.serve.data_plane import LARGE_BYTES, DataPlane, work_on
from serving_app.serve.grpc_calls import Answer, Answers, Context, Method, Methods
from serving_app.serve.grpc_health import Health
from serving_app.serve.metrics_page import Scrape
from serving_app.serve.request_meter import Request, RequestMeter

logger = logging.getLogger("ray.serve")

_RECALLED_BYTES = 4 << 20
"""Up to this size a request whose form is known is read where it comes: it is at most copied."""

Reload = Callable[[bytes, float | None], Awaitable[None]]
"""Puts a serialized ModelServerConfig in force, and waits so many seconds (None: for ever) for its new models."""

MeasuredAnswer = Callable[[bytes, Context, Request], Awaitable[bytes]]
"""Answers one request, which is measured meanwhile."""


class GrpcApp:
    """Answers gRPC calls from the data plane."""

    def __init__(
        self, plane: DataPlane, reload: Reload, *, settings: GatewayConfig, meter: RequestMeter | None = None,
        scrape: Scrape | None = None,
    ) -> None:
        """Without a meter nobody gets to know the counts; `scrape` is needed to tell what grew during a reload."""
        self._plane = plane
        self._meter = meter or RequestMeter()
        self._reload = reload
        self._scrape = scrape
        self._timeout = settings.grpc_timeout_s
        self._as_content = settings.tensor_content
        self._check_method_names = settings.check_method_names
        self._health = Health() if settings.grpc_health else None

    def drain(self) -> None:
        """Tell who asks for the health of this gateway that requests are better sent elsewhere."""
        if self._health is not None:
            self._health.drain()

    def methods(self) -> Methods:
        """Everything that is served, by path."""
        answers: dict[str, MeasuredAnswer] = {
            grpc_methods.PREDICT: self._predict,
            grpc_methods.CLASSIFY: partial(self._ask_about_examples, example_requests.decode_classification),
            grpc_methods.REGRESS: partial(self._ask_about_examples, example_requests.decode_regression),
            grpc_methods.MULTI_INFERENCE: partial(self._ask_about_examples, example_requests.decode_multi_inference),
            grpc_methods.GET_MODEL_METADATA: self._get_model_metadata,
            grpc_methods.GET_MODEL_STATUS: self._get_model_status,
            grpc_methods.HANDLE_RELOAD_CONFIG_REQUEST: self._handle_reload_config_request,
        }
        if self._health is not None:
            answers[grpc_methods.HEALTH_CHECK] = _without_measure(self._health.check)
            answers[grpc_methods.HEALTH_LIST] = _without_measure(self._health.list_all)
        reload = grpc_methods.HANDLE_RELOAD_CONFIG_REQUEST
        methods = {
            path: Method(answer=_guard(path, answer, self._meter), needs_task=path == reload)
            for path, answer in answers.items()
        }
        if self._health is not None:
            watch = grpc_methods.HEALTH_WATCH
            methods[watch] = Method(answers=_guard_stream(watch, self._health.watch))
        reflections = (grpc_methods.REFLECTION_V1, grpc_methods.REFLECTION_V1ALPHA)
        services = {grpc_methods.service_of(path) for path in (*methods, *reflections)}
        for path in reflections:
            reflect = _reflect(grpc_methods.service_of(path), services)
            methods[path] = Method(answers=_guard_stream(path, reflect), takes_many=True)
        return methods

    async def _predict(self, request: bytes, context: Context, measured: Request) -> bytes:
        size = len(request)
        query = predict_proto.recall_predict(request) if size <= _RECALLED_BYTES else None
        if query is None:
            query = await work_on(size, partial(predict_proto.decode_predict, request))
        attributes = RequestAttributes(context.metadata, partial(first_of_inputs, query.inputs))
        with self._plane.route(query.spec, measured, attributes) as route:
            signature = predict_checks.find_signature(route.signatures, query.signature_name)
            if self._check_method_names:
                predict_checks.check_method(signature)
            predict_checks.check_inputs(signature, query.inputs)
            if query.encoded is None:
                inputs = predict_proto.decode_inputs(query)
            else:
                inputs = await work_on(size, partial(predict_proto.decode_inputs, query))
            wanted = predict_checks.select_outputs(signature, query.output_filter)
            call = Call(query.signature_name or DEFAULT_SIGNATURE, inputs, wanted, self._time_left(context))
            outputs = await self._plane.run(route, call, measured)
            answered = (route.servable.name, route.servable.version, call.signature_name, outputs)
            if total_bytes(outputs) <= LARGE_BYTES:
                return predict_proto.encode_predict(*answered, as_content=self._as_content)
            return await asyncio.to_thread(predict_proto.encode_predict, *answered, as_content=self._as_content)

    async def _ask_about_examples(
        self, decode: Callable[[bytes], example_requests.ExampleQuery], request: bytes, context: Context,
        measured: Request,
    ) -> bytes:
        """Classify, Regress and MultiInference, which differ in how their messages are read and written."""
        query = await work_on(len(request), partial(decode, request))
        attributes = RequestAttributes(context.metadata, partial(first_of_examples, query.examples))
        with self._plane.route(query.spec, measured, attributes) as route:
            call = example_requests.make_call(
                query, route.signatures, check_method_names=self._check_method_names, timeout=self._time_left(context)
            )
            outputs = await self._plane.run(route, call, measured)
            encode = partial(example_results.encode_response, query, call, route.servable, outputs)
            return await work_on(total_bytes(outputs), encode)

    async def _get_model_metadata(self, request: bytes, context: Context, measured: Request) -> bytes:
        spec = status_proto.decode_metadata_request(request)
        with self._plane.route(spec, measured, RequestAttributes(context.metadata)) as route:
            return status_proto.encode_metadata(route.servable.name, route.servable.version, route.signatures)

    async def _get_model_status(self, request: bytes, _context: Context, _measured: Request) -> bytes:
        return status_proto.encode_statuses(self._plane.statuses(status_proto.decode_status_request(request)))

    async def _handle_reload_config_request(self, request: bytes, context: Context, _measured: Request) -> bytes:
        query = reload_proto.decode_reload(request)
        before = await self._scrape() if self._scrape and query.metric_names else {}
        # Without a deadline the caller waits for as long as it takes, as in TensorFlow Serving: models may be large.
        await self._reload(query.config, context.time_remaining())
        if not query.metric_names:
            return reload_proto.encode_reload({})
        try:
            after = await self._scrape() if self._scrape else {}
        except ServingError as error:
            logger.warning("the configuration is in force; what grew meanwhile is not known: %s", error)
            return reload_proto.encode_reload({})
        growth = {name: first_value(name, after) - first_value(name, before) for name in query.metric_names}
        return reload_proto.encode_reload(growth)

    def _time_left(self, context: Context) -> float | None:
        left: float | None = context.time_remaining()
        return self._timeout if left is None else left


def _reflect(service: str, services: Iterable[str]) -> Answers:
    """Server reflection, which tells clients of these services, as `service`."""

    async def reflect(requests: AsyncIterator[bytes], _context: Context) -> AsyncIterator[bytes]:
        async for request in requests:
            yield reflection_proto.reflect(service, request, services)

    return reflect


def _without_measure(check: Callable[[bytes, Context], Awaitable[bytes]]) -> MeasuredAnswer:
    """An answer that asks no model."""

    async def answer(request: bytes, context: Context, _measured: Request) -> bytes:
        return await check(request, context)

    return answer


def _guard(path: str, answer: MeasuredAnswer, meter: RequestMeter) -> Answer:
    """An answer that is counted, and whose errors are what a client may be told, and never a stack trace."""

    async def counted(request: bytes, context: Context) -> bytes:
        try:
            with meter.grpc(path) as measured:
                return await answer(request, context, measured)
        except Exception as error:
            raise _as_failure(path, error) from None

    return counted


def _guard_stream(path: str, answers: Answers) -> Answers:
    """Answers whose error is what a client may be told."""

    async def guarded(request: Any, context: Context) -> AsyncIterator[bytes]:
        try:
            async for answer in answers(request, context):
                yield answer
        except Exception as error:
            raise _as_failure(path, error) from None

    return guarded


def _as_failure(path: str, error: Exception) -> ServingError:
    """What a client is told of an error; one that nobody expected is logged with its stack."""
    if not isinstance(error, ServingError):
        logger.error("%s failed", path, exc_info=error)
    return as_serving_error(error)
