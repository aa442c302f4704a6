"""What counts as a request of a Python caller, and as what."""

from __future__ import annotations

import numpy as np
import pytest

from serving_app.client.call_meter import CallMeter
from serving_app.core.errors import Code
from serving_app.core.families import CALLER_LATENCY, CALLER_REQUESTS
from serving_app.core.metrics import Registry
from serving_app.core.routing import Route
from serving_app.core.servable import ModelSpec, ServableId
from serving_app.core.strangers import OTHERS
from serving_app.protocol.calls import Call

CALL = Call("s", {"x": np.zeros(3)}, api="Classify")
ROUTE = Route(ServableId("m", 4), "m@4", {})


class Scene:
    def __init__(self) -> None:
        self.registry = Registry()
        self.meter = CallMeter(self.registry, lambda model: model == "m")

    def requests(self) -> dict[tuple[str, ...], float | tuple[float, ...]]:
        return self.registry.counts().get(CALLER_REQUESTS.name, {})


@pytest.mark.parametrize(
    ("spec", "named"),
    [(ModelSpec("m"), "latest"), (ModelSpec("m", label="l"), "label"), (ModelSpec("m", version=4), "number")],
)
def test_what_succeeds(spec: ModelSpec, named: str) -> None:
    """By version, signature, kind of request and the way the version was named, with its time."""
    scene = Scene()
    for took_s in (0.000005, 0.001, 0.001):
        scene.meter.succeed(spec, ROUTE, CALL, took_s)
    for _ in range(2):  # looked at twice, counted once
        assert scene.requests() == {("m", "OK", "4", "s", named): 3}
    [(labels, cell)] = scene.registry.counts()[CALLER_LATENCY.name].items()
    assert labels == ("m", "Classify", "4", "s", named)
    assert isinstance(cell, tuple)
    assert (cell[0], sum(cell[:-1]), cell[-1]) == (1, 3, 2005)


@pytest.mark.parametrize(
    ("route", "signature", "labels"),
    [
        (None, "", ("m", "NOT_FOUND", "", "", "latest")),
        (ROUTE, "", ("m", "NOT_FOUND", "4", "", "latest")),
        (ROUTE, "s", ("m", "NOT_FOUND", "4", "s", "latest")),
    ],
)
def test_what_fails(route: Route | None, signature: str, labels: tuple[str, ...]) -> None:
    """By what was known of it; it has no time."""
    scene = Scene()
    scene.meter.fail(ModelSpec("m"), route, signature, Code.NOT_FOUND)
    assert scene.registry.counts() == {CALLER_REQUESTS.name: {labels: 1}}


def test_names_of_models_that_are_not_there() -> None:
    """Are counted by themselves as long as there are few."""
    scene = Scene()
    for number in range(150):
        scene.meter.fail(ModelSpec(f"n{number}"), None, "", Code.NOT_FOUND)
    names = {labels[0] for labels in scene.requests()}
    assert len(names) == 101
    assert scene.requests()[OTHERS, "NOT_FOUND", "", "", "latest"] == 50
