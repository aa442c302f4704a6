"""What a Python caller's request means by the routes of some moment."""

from __future__ import annotations

from collections import Counter

import numpy as np

from serving_app.client.request import Request
from serving_app.core.routing import ModelRoutes, Route, RouteTable, find_candidate, resolve
from serving_app.core.servable import ModelSpec, ServableId
from serving_app.core.signatures import DType, Signature, TensorSpec
from serving_app.core.traffic import Mirror, Traffic, no_attributes
from serving_app.protocol.calls import Call


def signatures(name: str) -> dict[str, Signature]:
    spec = TensorSpec(f"{name}:0", DType.FLOAT, (-1,))
    return {"serving_default": Signature({name: spec}, {"y": spec})}


SPEC = ModelSpec("m")
ROUTES = {number: Route(ServableId("m", number), f"m-{number}", signatures("x")) for number in (1, 2)}
OTHER = Route(ServableId("m", 3), "m-3", signatures("z"))


def table(traffic: Traffic, *more: Route) -> RouteTable:
    routes = ROUTES | {route.servable.version: route for route in more}
    return RouteTable(1, {"m": ModelRoutes(routes, traffic={"": traffic})})


def request(by: RouteTable, timeout: float | None = None) -> Request:
    """One whose call has an input for each that the signature wants."""

    def make(wanted: object) -> Call:
        assert isinstance(wanted, dict)
        inputs = wanted["serving_default"].inputs
        return Call("serving_default", {name: np.zeros(1) for name in inputs}, None, timeout)

    route = resolve(SPEC, by)
    return Request(SPEC, no_attributes, make, by, route, find_candidate(SPEC, by, route), make(route.signatures))


def test_a_version_is_drawn_once() -> None:
    """However often it is asked for by one table; so is whether a copy is made. By another table both are drawn again,
    and where somebody has refused."""
    shared = table(Traffic({1: 50.0, 2: 50.0}, mirror=Mirror(2, 50.0)))
    asked = [request(shared) for _ in range(200)]
    assert [each.by(shared) for each in asked] == asked
    drawn = Counter((each.route.servable.version, each.candidate is not None) for each in asked)
    assert drawn.keys() == {(1, True), (1, False), (2, False)}
    again = table(Traffic({1: 50.0, 2: 50.0}, mirror=Mirror(2, 50.0)))
    for renewed in ([each.by(again) for each in asked], [each.refused().by(shared) for each in asked]):
        changes = [(old.route is not new.route, old.candidate != new.candidate)
                   for old, new in zip(asked, renewed, strict=True)]
        assert {True} <= {each[0] for each in changes}
        assert {True} <= {each[1] for each in changes}


def test_a_call_is_made_for_the_version() -> None:
    """Anew only if that is asked in another way, and it keeps the time that is left."""
    asked = request(table(Traffic({1: 100.0})), timeout=5.0).later(2.0)
    assert asked.by(table(Traffic({2: 100.0}))).call is asked.call
    moved = asked.by(table(Traffic({3: 100.0}), OTHER))
    assert (list(moved.call.inputs), moved.call.timeout, moved.route) == (["z"], 3.0, OTHER)
    assert request(table(Traffic({1: 100.0}))).later(2.0).call.timeout is None
