"""From a request's model spec to a route or a status."""

import pickle

import pytest

from serving_app.core.errors import Code, InvalidArgument, NotFound
from serving_app.core.routing import (
    ModelRoutes,
    Route,
    RouteTable,
    VersionStatus,
    find_candidate,
    find_statuses,
    resolve,
)
from serving_app.core.servable import ModelSpec, ServableId
from serving_app.core.signatures import DType, Signature, TensorSpec
from serving_app.core.states import PublicState
from serving_app.core.traffic import Mirror, Rule, Tolerance, Traffic

SIGNATURE = Signature({"x": TensorSpec("x:0", DType.FLOAT, (-1,))}, {"y": TensorSpec("y:0", DType.FLOAT, None)})


def route(version: int) -> Route:
    return Route(ServableId("m", version), f"m-{version}", {"serving_default": SIGNATURE})


STATUSES = (
    VersionStatus(10, PublicState.LOADING),
    VersionStatus(9, PublicState.AVAILABLE),
    VersionStatus(3, PublicState.AVAILABLE),
    VersionStatus(2, PublicState.END, Code.NOT_FOUND, "no such file"),
)
TABLE = RouteTable(
    7,
    {
        "m": ModelRoutes({9: route(9), 3: route(3)}, {"stable": 3, "canary": 10}, STATUSES),
        "idle": ModelRoutes({}, {"stable": 1}),
    },
)


@pytest.mark.parametrize(
    ("spec", "version"),
    [
        (ModelSpec("m"), 9),
        (ModelSpec("m", version=3), 3),
        (ModelSpec("m", label="stable"), 3),
        (ModelSpec("m", version=9, label="stable"), 9),
    ],
)
def test_resolve(spec, version):
    """A version is found by number, by label, or as the largest that is ready; a number goes before a label."""
    assert resolve(spec, TABLE) == route(version)


SHARED = RouteTable(
    8,
    {
        "m": ModelRoutes(
            {9: route(9), 3: route(3)},
            {"stable": 9, "canary": 9},
            traffic={"": Traffic({3: 100.0}), "stable": Traffic({9: 100.0}, rules=(Rule("a", 3, frozenset("x")),)),
                     "new": Traffic({9: 100.0}), "gone": Traffic({10: 100.0})},
        )
    },
)


@pytest.mark.parametrize(
    ("spec", "attributes", "version"),
    [
        (ModelSpec("m"), {}, 3),
        (ModelSpec("m", version=9), {}, 9),
        (ModelSpec("m", label="stable"), {}, 9),
        (ModelSpec("m", label="stable"), {"a": "x"}, 3),
        (ModelSpec("m", label="canary"), {"a": "x"}, 9),
        (ModelSpec("m", label="new"), {}, 9),
    ],
)
def test_resolve_shared(spec, attributes, version):
    """Requests for a target whose traffic is shared get one of those versions; those by number are not concerned."""
    assert resolve(spec, SHARED, attributes.get) == route(version)


@pytest.mark.parametrize("label", ["gone", ""])
def test_resolve_shared_among_none(label):
    """Without a version that is ready a label means what it would mean otherwise, and an empty one is none."""
    with pytest.raises(InvalidArgument, match="Unrecognized servable version label"):
        resolve(ModelSpec("m", label=label), SHARED)


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        (ModelSpec(""), InvalidArgument, "ModelSpec has no name specified."),
        (ModelSpec("m", version=10), NotFound, "Servable not found for request: Specific(m, 10)"),
        (ModelSpec("m", version=0), NotFound, "Servable not found for request: Specific(m, 0)"),
        (ModelSpec("m", label="canary"), NotFound, "Servable not found for request: Specific(m, 10)"),
        (ModelSpec("m", label="beta"), InvalidArgument, "Unrecognized servable version label: beta"),
        (ModelSpec("m", label=""), InvalidArgument, "Unrecognized servable version label: "),
        (ModelSpec("idle"), NotFound, "Servable not found for request: Latest(idle)"),
        (ModelSpec("idle", label="stable"), NotFound, "Servable not found for request: Specific(idle, 1)"),
        (ModelSpec("none"), NotFound, "Servable not found for request: Latest(none)"),
        (ModelSpec("none", version=1), NotFound, "Servable not found for request: Specific(none, 1)"),
        (ModelSpec("none", label="stable"), InvalidArgument, "Unrecognized servable version label: stable"),
    ],
)
def test_resolve_refuses(spec, error, message):
    """What cannot be routed gets TensorFlow Serving's error and text."""
    with pytest.raises(error) as caught:
        resolve(spec, TABLE)
    assert type(caught.value) is error
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("spec", "statuses"),
    [
        (ModelSpec("m"), STATUSES),
        (ModelSpec("m", version=2), STATUSES[3:]),
        (ModelSpec("m", label="beta"), STATUSES),
    ],
)
def test_find_statuses(spec, statuses):
    """Statuses tell of every version, ready or not, or of the one asked for."""
    assert find_statuses(spec, TABLE) == statuses


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (ModelSpec("none"), "Could not find any versions of model none"),
        (ModelSpec("idle"), "Could not find any versions of model idle"),
        (ModelSpec("m", version=4), "Could not find version 4 of model m"),
        (ModelSpec("none", version=4), "Could not find version 4 of model none"),
    ],
)
def test_find_statuses_refuses(spec, message):
    """A model or version that nobody knows is not found."""
    with pytest.raises(NotFound) as caught:
        find_statuses(spec, TABLE)
    assert str(caught.value) == message


def test_tables_travel():
    """A table is the same on the far side of a process border."""
    assert pickle.loads(pickle.dumps(TABLE)) == TABLE


def test_latest():
    """The latest version is the largest that is ready, not the largest that is known."""
    assert TABLE.models["m"].latest == 9
    assert TABLE.models["idle"].latest is None


MIRRORED = RouteTable(
    9,
    {
        "m": ModelRoutes(
            {9: route(9), 3: route(3)},
            {"stable": 9},
            traffic={
                "": Traffic({3: 100.0}, mirror=Mirror(9, 100, {"y": Tolerance(1.0)})),
                "early": Traffic({3: 100.0}, mirror=Mirror(10, 100)),
                "self": Traffic({9: 100.0}, mirror=Mirror(9, 100)),
                "never": Traffic({3: 100.0}, mirror=Mirror(9, 0)),
                "plain": Traffic({3: 100.0}),
            },
        ),
        "n": ModelRoutes({1: route(1)}),
    },
)


@pytest.mark.parametrize(
    ("spec", "version"),
    [
        (ModelSpec("m"), 9),
        (ModelSpec("m", version=3), None),
        (ModelSpec("m", label="stable"), None),
        (ModelSpec("m", label="early"), None),
        (ModelSpec("m", label="self"), None),
        (ModelSpec("m", label="never"), None),
        (ModelSpec("m", label="plain"), None),
        (ModelSpec("n"), None),
    ],
)
def test_who_gets_a_copy(spec, version):
    """The mirror of the target, if it is ready and does not answer the request itself; requests that name a version by
    its number are not copied."""
    candidate = find_candidate(spec, MIRRORED, resolve(spec, MIRRORED))
    assert (candidate and candidate.route) == (None if version is None else route(version))
    assert candidate is None or candidate.tolerances == {"y": Tolerance(1.0)}
