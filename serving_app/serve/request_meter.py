"""Counts the requests of a gateway, as TensorFlow Serving counts them (servables/tensorflow/util.cc).

A front end measures a request from when it has its bytes until it has the bytes of its answer:

    with meter.rest() as measured:      # or meter.grpc(path)
        measured.name(spec.name, "predict")
        ...                             # an error that leaves the block is the request's outcome

The data plane, to which it is handed on, adds which version and signature that meant, and when the call left and its
outputs came; whoever carries the call says what it has met with on its way (`leg`).
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Iterator
from types import TracebackType

from serving_app.core.errors import Code, code_of
from serving_app.core.families import (
    IN_FLIGHT,
    OTHER_REQUESTS,
    REQUEST_COUNT,
    REQUEST_EXAMPLE_COUNT_TOTAL,
    REQUEST_EXAMPLE_COUNTS,
    REQUEST_LATENCY,
    STAGE_MICROSECONDS,
    STAGE_REQUESTS,
)
from serving_app.core.metrics import Registry
from serving_app.core.routing import Candidate
from serving_app.core.stages import Leg, Stage
from serving_app.core.strangers import Strangers
from serving_app.protocol import grpc_methods
from serving_app.protocol.calls import Call

_COUNTED = {grpc_methods.PREDICT: "Predict", grpc_methods.CLASSIFY: "Classify", grpc_methods.REGRESS: "Regress"}
"""The methods that TensorFlow Serving counts, by what it calls them."""

_LIMITS = REQUEST_LATENCY.limits


class Request:
    """One request that is being measured. To be used once, as a context.

    `api` is what is asked for: a method of gRPC, or the verb of a REST URL; empty for what asks no model.
    """

    __slots__ = (
        *("_meter", "api", "began", "candidate", "code", "entrypoint", "got", "leg", "method", "model", "sent"),
        *("signature", "version"),
    )

    def __init__(self, meter: RequestMeter, entrypoint: str, method: str, api: str) -> None:
        self._meter = meter
        self.api = api
        self.entrypoint = entrypoint
        self.method = method
        self.model = self.version = self.signature = ""
        self.code = Code.OK
        self.sent = self.got = 0.0
        self.leg: Leg | None = None
        self.candidate: Candidate | None = None
        """The version that is to get a copy."""

    def name(self, model: str, api: str) -> None:
        """Which model is asked, and what for."""
        self.model, self.api = model, api

    def take(self, call: Call) -> Call:
        """The request makes this call now: the same call, and what its run counts as."""
        self.sent = time.perf_counter()
        self.signature = call.signature_name
        if self.api == _MULTI_INFERENCE:
            # TensorFlow Serving counts the examples of no other kind of request (multi_inference.cc).
            self._meter.count_examples(self, sum(len(array) for array in call.inputs.values()))
        api = self.api.capitalize()
        return call if call.api == api else call._replace(api=api if api in _RUN_APIS else "")

    def receive(self) -> None:
        """The call has its outputs now."""
        self.got = time.perf_counter()

    def __enter__(self) -> Request:
        self._meter.in_flight += 1
        self.began = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        ended = time.perf_counter()
        self._meter.in_flight -= 1
        self._meter.count(self, self.code if error is None else code_of(error), ended)


_RUN_APIS = frozenset(_COUNTED.values())
_MULTI_INFERENCE = grpc_methods.MULTI_INFERENCE.rpartition("/")[2]


class _Stages:
    """What requests of one kind spent in their stages, in seconds."""

    __slots__ = ("_batch_wait", "_decode", "_encode", "_here", "_hop", "_queue", "_resume", "_run", "_travelled")

    def __init__(self) -> None:
        self._here = self._travelled = 0
        self._decode = self._queue = self._hop = self._batch_wait = self._run = self._resume = self._encode = 0.0

    def add(self, request: Request, ended: float) -> None:
        """One more, whose call has outputs. This is done for each request, so it is plain sums."""
        sent, got = request.sent, request.got
        self._decode += sent - request.began
        self._encode += ended - got
        leg = request.leg
        if leg is None:
            self._here += 1
            self._run += got - sent
            return
        left, back, hop, batch_wait, run = leg
        self._travelled += 1
        self._queue += left - sent
        self._hop += hop
        self._batch_wait += batch_wait
        self._run += run
        self._resume += got - back

    def told(self) -> Iterator[tuple[Stage, int, float]]:
        """Each stage that requests have passed, by how many, and in how long."""
        requests = self._here + self._travelled
        if not requests:
            return
        yield Stage.DECODE, requests, self._decode
        if self._travelled:
            yield Stage.QUEUE, self._travelled, self._queue
            if self._hop:
                yield Stage.HOP, self._travelled, self._hop
            yield Stage.BATCH_WAIT, self._travelled, self._batch_wait
        yield Stage.RUN, requests, self._run
        if self._travelled:
            yield Stage.RESUME, self._travelled, self._resume
        yield Stage.ENCODE, requests, self._encode


class RequestMeter:
    """The requests of one gateway, counted on one event loop. `knows` tells whether there is a model of a name."""

    def __init__(
        self, registry: Registry | None = None, knows: Callable[[str], bool] = lambda _: True, gateway: str = ""
    ) -> None:
        registry = registry or Registry()
        self._registry = registry
        self._strangers = Strangers(knows)
        self.in_flight = 0
        registry.watch(IN_FLIGHT, lambda: {(gateway,): self.in_flight})
        self._answered: dict[tuple[str, str, str, str, str], tuple[list[float], _Stages]] = {}
        registry.feed(self._feed)

    def rest(self) -> Request:
        """A request to REST's API."""
        return Request(self, "REST", "", "")

    def grpc(self, path: str) -> Request:
        """A call of this gRPC method."""
        method = path.rpartition("/")[2]
        return Request(self, "GRPC", "" if path in _COUNTED else method, _COUNTED.get(path, method))

    def count(self, request: Request, code: Code, ended: float) -> None:
        """A request has this outcome; its answer is there since `ended`."""
        if request.method:
            self._registry.count(OTHER_REQUESTS, (request.method, code.name))
            return
        if code is not Code.OK:
            model = self._strangers.present(request.model)
            self._registry.count(REQUEST_COUNT, (model, code.name, request.version, request.signature))
            return
        key = (request.model, request.api, request.entrypoint, request.version, request.signature)
        answered = self._answered.get(key)
        if answered is None:
            answered = self._answered[key] = [0] * (len(_LIMITS) + 2), _Stages()
        cell, stages = answered
        micros = int((ended - request.began) * 1e6)
        cell[bisect_right(_LIMITS, micros)] += 1
        cell[-1] += micros
        if request.got:
            stages.add(request, ended)

    def _feed(self) -> None:
        """What succeeds is by far the most, and counted without a lock until somebody looks."""
        answered, self._answered = self._answered, {}
        for (name, api, entrypoint, version, signature), (cell, stages) in answered.items():
            model = self._strangers.present(name)
            self._registry.count(REQUEST_COUNT, (model, "OK", version, signature), int(sum(cell[:-1])))
            self._registry.add_observed(REQUEST_LATENCY, (model, api, entrypoint, version, signature), cell)
            for stage, requests, seconds in stages.told():
                labels = (model, version, entrypoint, stage.value)
                self._registry.count(STAGE_REQUESTS, labels, requests)
                self._registry.count(STAGE_MICROSECONDS, labels, round(seconds * 1e6))

    def count_examples(self, request: Request, examples: int) -> None:
        """A request of a model that is there has so many examples."""
        labels = (request.model, request.version)
        self._registry.observe(REQUEST_EXAMPLE_COUNTS, labels, examples)
        self._registry.count(REQUEST_EXAMPLE_COUNT_TOTAL, labels, examples)
