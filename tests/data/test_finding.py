"""Which version is meant where nobody serves the model, and by a serving app that answers as it would."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from serving_app.client.control import Control
from serving_app.core.errors import FailedPrecondition, InvalidArgument, NotFound, ServingError
from serving_app.core.routing import ModelRoutes, Route, RouteTable
from serving_app.core.servable import ModelSpec, ServableId
from serving_app.core.states import State
from serving_app.core.views import AppView, ModelView, VersionView
from serving_app.data.finding import find_served, find_stored
from serving_app.data.pinned import pin
from tests.data.signatures import ROW, signature
from tests.stepping import Actor
from tests.zoo import Zoo

HALF = signature({"x": ROW}, {"y": ROW})


@pytest.mark.parametrize(("version", "found"), [(None, 2), (1, 1)])
def test_versions_of_a_base_path(zoo: Zoo, version: int | None, found: int) -> None:
    """The newest version is meant unless a number says otherwise, and its signatures are known without loading it."""
    there = find_stored(None, zoo.base("half_plus_two"), version)
    assert there.servable == ServableId("half_plus_two", found)
    assert there.assignment is not None
    assert there.assignment.path == zoo.path("half_plus_two", found)
    assert there.signatures is not None
    assert list(there.signatures["serving_default"].inputs) == ["x"]


def test_the_directory_of_a_version_can_be_named(zoo: Zoo, tmp_path: Path) -> None:
    """A version's own directory is that version, whatever it is called."""
    assert find_stored(None, zoo.path("half_plus_two", 1), None).servable == ServableId("half_plus_two", 1)
    assert find_stored("m", zoo.path("half_plus_two", 1), 1).servable == ServableId("m", 1)
    shutil.copytree(zoo.path("half_plus_two", 1), tmp_path / "export")
    assert find_stored(None, str(tmp_path / "export"), None).servable == ServableId("export", 0)
    with pytest.raises(InvalidArgument, match="is a version itself, and not the base path of version 7"):
        find_stored(None, zoo.path("half_plus_two", 1), 7)


def test_an_unfinished_version_is_not_taken(zoo: Zoo, tmp_path: Path) -> None:
    """A version whose files are not all there does not count, and when it is asked for, that is told."""
    shutil.copytree(zoo.path("half_plus_two", 1), tmp_path / "1")
    (tmp_path / "2").mkdir()
    assert find_stored(None, str(tmp_path), None).servable.version == 1
    with pytest.raises(FailedPrecondition, match=r"version 2 under .* is not complete: saved_model.pb is missing"):
        find_stored(None, str(tmp_path), 2)


@pytest.mark.parametrize(
    ("path", "version", "message"),
    [("nothing", None, "Could not find base path"), ("", None, "no version under"), ("", 3, "no version 3 under")],
)
def test_what_is_not_there_is_told(tmp_path: Path, path: str, version: int | None, message: str) -> None:
    """An error names the path, and the version if one was asked for."""
    with pytest.raises(NotFound, match=message):
        find_stored("m", str(tmp_path / path), version)


class _Controller:
    """A controller that serves version 2 of m, which `stable` names, from a base path that has more."""

    def __init__(self, base: str) -> None:
        self.base = base

    def routes(self) -> RouteTable:
        route = Route(ServableId("m", 2), "default:m@2", {"serving_default": HALF})
        return RouteTable(1, {"m": ModelRoutes({2: route}, {"stable": 2, "next": 3})})

    def config_text(self, form: str, secrets: bool) -> str:
        assert secrets  # or nobody could read the store
        return f"models:\n  m:\n    base_path: {self.base}\n    num_gpus: 0.5\n"

    def view(self) -> AppView:
        version = VersionView(
            ServableId("m", 2), State.READY, 0.0, True, f"{self.base}/2", "default:m@2", 0, None, None
        )
        return AppView("default", 1, {}, {}, {"m": ModelView("m", True, frozenset({2}), None, (version,))})


def control(base: str) -> Control:
    """Asks that controller."""

    async def find(_: str) -> Any:
        return Actor(_Controller(base))

    return Control("default", find=find)


@pytest.mark.parametrize(
    "spec", [ModelSpec("m", None, None), ModelSpec("m", 2, None), ModelSpec("m", None, "stable")], ids=str
)
def test_a_serving_app_says_what_a_name_means(zoo: Zoo, spec: ModelSpec) -> None:
    """Latest, number and label mean what they mean in a request; a worker gets to know where the files are."""
    asked = control(zoo.base("half_plus_two"))
    local, live = (find_served(asked, spec, how) for how in ("local", "live"))  # type: ignore[arg-type]
    assert local.servable == live.servable == ServableId("m", 2)
    assert local.signatures == live.signatures == {"serving_default": HALF}
    assert live.assignment is None
    assert local.assignment is not None
    assert local.assignment.path == zoo.path("half_plus_two", 2)
    assert local.num_gpus == 0.5


def test_a_version_that_is_not_served_can_be_run_locally(zoo: Zoo) -> None:
    """A number is enough to find a version's files, but not to have it answer."""
    asked = control(zoo.base("half_plus_two"))
    assert find_served(asked, ModelSpec("m", 1, None), "local").servable == ServableId("m", 1)
    with pytest.raises(NotFound, match=r"Specific\(m, 1\)"):
        find_served(asked, ModelSpec("m", 1, None), "live")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (ModelSpec("other", None, None), r"Latest\(other\)"),
        (ModelSpec("m", None, "gone"), "Unrecognized servable version label: gone"),
        (ModelSpec("m", None, "next"), r"Specific\(m, 3\)"),
    ],
)
def test_unknown_names_are_refused_as_in_a_request(spec: ModelSpec, message: str) -> None:
    """A model, label or version that does not answer is told in the words of every other door."""
    with pytest.raises(ServingError, match=message):
        find_served(control("/models/m"), spec, "local")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": "m", "version": 1, "label": "x"}, "two ways to say the same"),
        ({}, "name a model, or give the base_path"),
        ({"model": "m", "how": "now"}, "how is 'local' or 'live', and not 'now'"),
        ({"model": "m", "on_error": "drop"}, "on_error is 'fail' or 'set_aside', and not 'drop'"),
        ({"model": "m", "timeout": 0}, "have to be above 0"),
        ({"model": "m", "version": 1.5}, "a version is a whole number"),
        ({"base_path": "/m", "version": "1"}, "a version is a whole number"),
        ({"base_path": "/m", "version": 2**63}, "a version is a number from 0 to"),
        ({"base_path": "/m", "label": "x"}, "labels and live calls are of a serving app"),
        ({"base_path": "/m", "how": "live"}, "labels and live calls are of a serving app"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments: dict[str, Any], message: str) -> None:
    """What contradicts itself is told before anybody is asked."""
    with pytest.raises(InvalidArgument, match=message):
        pin(**arguments)


def test_a_signature_that_is_not_there_is_told_at_once(zoo: Zoo) -> None:
    """Who names no signature of the version hears so before anything is loaded."""
    with pytest.raises(FailedPrecondition, match='Serving signature key "nope" not found'):
        pin(base_path=zoo.base("half_plus_two"), signature_name="nope")


def test_threads_follow_the_workers_cpus(zoo: Zoo) -> None:
    """A worker with two CPUs has two threads inside and between operations; nothing is batched or warmed up."""
    found = pin(base_path=zoo.base("half_plus_two")).with_cpus(2).found
    assert found.assignment is not None
    assert (found.assignment.load.intra_op_parallelism, found.assignment.load.inter_op_parallelism) == (2, 2)
    assert not found.assignment.warmup.enabled
    assert found.assignment.batching is None
