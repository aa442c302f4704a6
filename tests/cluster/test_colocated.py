"""A model that lives in the gateways, moves out and in again, and outlives controllers and gateways."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from serving_app import connect
from serving_app.core.placement import Placement
from serving_app.core.states import PublicState
from tests.cluster.asking import Load, ask_everywhere, ask_rest, steadily
from tests.cluster.serving import Serving, add_version, kill, serving
from tests.cluster.waiting import wait_for
from tests.zoo import Zoo

pytestmark = pytest.mark.cluster

MODEL = "half_plus_two"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, zoo: Zoo) -> Path:
    """The base path of the model, with version 1."""
    path = tmp_path_factory.mktemp("colocated") / MODEL
    shutil.copytree(zoo.path(MODEL, 1), path / "1")
    return path


@pytest.fixture(scope="module")
def app(door_port: int, folder: Path) -> Iterator[Serving]:
    """One app for all tests here, in whose two gateways the model lives; each test leaves it so, one version on."""
    with serving("colocated", door_port) as app:
        app.deploy(models(folder, "colocated"), gateways=2)
        app.wait_for_version(MODEL, 1)
        yield app


@pytest.fixture
def load(app: Serving) -> Iterator[Load]:
    """Steady requests through every door."""
    with steadily(ask_everywhere(app)) as load:
        yield load


def models(folder: Path, placement: str) -> dict[str, Any]:
    return {MODEL: {"base_path": str(folder), "settle_s": 0.1, "placement": placement}}


def placement(app: Serving) -> Placement | None:
    """Where the newest version lives."""
    routes = app.routes()
    latest = routes.models[MODEL].latest if routes else None
    return routes.models[MODEL].routes[latest].placement if routes and latest else None


def test_a_version_moves_under_load(app: Serving, load: Load, folder: Path) -> None:
    """When the placement changes, versions go out of the gateways and back without a failed request or a reload of
    anything else; colocated, none has an application of its own."""
    assert app.apps() == {app.name}
    assert placement(app) is Placement.COLOCATED
    with connect(app.name) as connection:
        config = connection.config()
        connection.apply(config.replace("placement: colocated", "placement: dedicated"))
        wait_for("the version to have its own replica", lambda: placement(app) is Placement.DEDICATED)
        assert app.apps() == {app.name, f"{app.name}:{MODEL}@1"}
        load.wait_for_more()
        connection.apply(config)
        wait_for("the version to be colocated", lambda: placement(app) is Placement.COLOCATED)
        wait_for("its own replica to be gone", lambda: app.apps() == {app.name})
    load.wait_for_more()
    load.assert_nothing_failed()


def test_a_new_version_and_a_new_controller(app: Serving, load: Load, folder: Path, zoo: Zoo) -> None:
    """A controller that dies is not missed, the next one knows what the gateways hold, and brings a new version into
    all of them, without a failed request."""
    killed = app.controller_pid()
    kill(killed)
    wait_for("another controller", lambda: app.controller_pid() != killed)
    add_version(zoo.path(MODEL, 2), folder, 2)
    load.wait_for_answer_of(2)
    app.wait_for_version(MODEL, 1, PublicState.END)
    load.assert_nothing_failed()
    assert all(counter[1] for counter in load.answers.values())
    newest = app.view().models[MODEL].versions[0]
    assert (newest.servable.version, newest.failures, newest.placement) == (2, 0, Placement.COLOCATED)


def test_a_gateway_dies(app: Serving) -> None:
    """The other answers alone; the one that takes its place has the version before it takes a request."""
    before = app.replicas()
    with steadily({f"REST {number}": ask_rest(app) for number in range(8)}) as load:
        name, pid = next(iter(before.items()))
        kill(pid)
        wait_for("another gateway", lambda: len(app.replicas()) == 2 and name not in app.replicas())
        wait_for("the new gateway to listen", lambda: len(app.view().gateways) == 2)
        load.wait_for_more(20)
    # Each connection to the dead one breaks once; what comes after that is answered.
    broken = ("ConnectionResetError", "RemoteDisconnected", "BrokenPipeError")
    assert [failure for failure in load.failures if not any(each in failure for each in broken)] == []
    assert len(load.failures) <= 8
    assert all(set(counter) <= {1, 2} for counter in load.answers.values())
