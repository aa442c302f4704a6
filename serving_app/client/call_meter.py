"""Counts the requests of a Python caller, which pass no gateway.

Any thread may count. What succeeds is counted by plain sums until somebody looks. A request that is tried again is one
for each version that has refused it: else nobody would see a version that never answers.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Callable

from serving_app.core.errors import Code
from serving_app.core.families import CALLER_LATENCY, CALLER_REQUESTS
from serving_app.core.metrics import Registry
from serving_app.core.routing import Route
from serving_app.core.servable import ModelSpec, naming_of
from serving_app.core.strangers import Strangers
from serving_app.protocol.calls import Call

_LIMITS = CALLER_LATENCY.limits


class CallMeter:
    """The requests of one link. `knows` tells whether there is a model of a name."""

    def __init__(self, registry: Registry, knows: Callable[[str], bool]) -> None:
        self._registry = registry
        self._strangers = Strangers(knows)
        self._counting = threading.Lock()
        self._answered: dict[tuple[str, int, str, str, str], list[float]] = {}
        registry.feed(self._feed)

    def succeed(self, spec: ModelSpec, route: Route, call: Call, took_s: float) -> None:
        """A request has its outputs."""
        key = (spec.name, route.servable.version, call.signature_name, naming_of(spec), call.api)
        micros = int(took_s * 1e6)
        with self._counting:
            cell = self._answered.get(key)
            if cell is None:
                cell = self._answered[key] = [0] * (len(_LIMITS) + 2)
            cell[bisect_right(_LIMITS, micros)] += 1
            cell[-1] += micros

    def fail(self, spec: ModelSpec, route: Route | None, signature: str, code: Code) -> None:
        """A request has failed: before it had a route, if it had none, and before it was a call of any signature, if
        that is empty."""
        version = str(route.servable.version) if route is not None else ""
        model = self._strangers.present(spec.name)
        self._registry.count(CALLER_REQUESTS, (model, code.name, version, signature, naming_of(spec)))

    def _feed(self) -> None:
        with self._counting:
            answered, self._answered = self._answered, {}
        for (model, version, signature, by, api), cell in answered.items():
            asked = str(version), signature, by
            self._registry.count(CALLER_REQUESTS, (model, Code.OK.name, *asked), int(sum(cell[:-1])))
            self._registry.add_observed(CALLER_LATENCY, (model, api, *asked), cell)
