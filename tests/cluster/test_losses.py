"""Processes that die while requests go on."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks.bench_controller_kill import MOMENTS, Loads
from serving_app.client.lane import open_lane
from serving_app.core.door import Door
from serving_app.core.states import PublicState
from serving_app.protocol.calls import Call
from tests.cluster.asking import Load, ask_everywhere, steadily
from tests.cluster.serving import Serving, add_version, kill, serving
from tests.cluster.waiting import wait_for
from tests.zoo import Zoo

pytestmark = pytest.mark.cluster

MODEL = "half_plus_two"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, zoo: Zoo) -> Path:
    """The base path of the model, with version 1."""
    path = tmp_path_factory.mktemp("losses") / MODEL
    shutil.copytree(zoo.path(MODEL, 1), path / "1")
    return path


@pytest.fixture(scope="module")
def app(door_port: int, folder: Path) -> Iterator[Serving]:
    """One app for all tests here, whose version has two replicas; each test leaves it whole."""
    with serving("losses", door_port) as app:
        app.deploy({MODEL: {"base_path": str(folder), "replicas": 2}})
        app.wait_for_version(MODEL, 1)
        wait_for("two replicas", lambda: len(app.replicas(MODEL, 1)) == 2)
        yield app


@pytest.fixture
def load(app: Serving) -> Iterator[Load]:
    """Steady requests through every door."""
    with steadily(ask_everywhere(app)) as load:
        yield load


def kill_controller(app: Serving) -> int:
    """Kill the controller; returns its process as soon as another one answers in its place."""
    killed = app.controller_pid()
    kill(killed)
    return killed


def test_lanes_lead_to_every_replica(app: Serving) -> None:
    """The route table tells where each replica takes calls without Serve: by its UNIX socket on its node, by TCP from
    another one."""
    name = f"{app.name}:{MODEL}@1"
    wait_for("two doors", lambda: len(app.ask("routes").doors.get(name, ())) == 2)

    async def ask(door: Door, node: str) -> float:
        lane = await open_lane(door, node, lambda: None)
        answer = await lane.ask([Call("serving_default", {"x": np.array([5.0], np.float32)})])
        lane.close()
        await lane.ended
        (reply,) = answer.replies
        assert isinstance(reply, dict)
        return float(reply["y"][0])

    for door in app.ask("routes").doors[name]:
        assert door.path is not None
        assert [asyncio.run(ask(door, node)) for node in (door.node, "another")] == [4.5, 4.5]


def test_replica_dies(app: Serving, load: Load) -> None:
    """Of two replicas one may die without a failed request; another comes up in its place and the route stays."""
    name, pid = next(iter(app.replicas(MODEL, 1).items()))
    kill(pid)
    wait_for("a new replica", lambda: len(app.replicas(MODEL, 1)) == 2 and name not in app.replicas(MODEL, 1))
    load.wait_for_more()
    load.assert_nothing_failed()
    assert app.versions(MODEL)[1].state is PublicState.AVAILABLE


def test_all_replicas_die(app: Serving, load: Load) -> None:
    """When no replica is left requests are answered again once there is one, by the same version on the same route."""
    before = app.replicas(MODEL, 1)
    for pid in before.values():
        kill(pid)
    wait_for("two new replicas", lambda: len(app.replicas(MODEL, 1).keys() - before.keys()) == 2)
    load.wait_for_more()
    failed = len(load.failures)
    load.wait_for_more()
    assert len(load.failures) == failed
    assert all("503" in failure or "UNAVAILABLE" in failure or "Unavailable" in failure for failure in load.failures)
    assert app.versions(MODEL)[1].state is PublicState.AVAILABLE


def test_controller_dies(app: Serving, load: Load) -> None:
    """Without a controller requests go on; the next one adopts what runs without loading anything again, and never
    takes it out of the routes."""
    replicas = app.replicas(MODEL, 1)
    killed_at = time.time()
    killed = kill_controller(app)
    assert app.controller_pid() != killed
    wait_for("the version to be adopted", lambda: 1 in app.versions(MODEL))
    load.wait_for_more()
    assert app.versions(MODEL)[1].state is PublicState.AVAILABLE
    assert app.replicas(MODEL, 1) == replicas
    load.assert_nothing_failed()
    since = [each.what for each in app.ask("history", MODEL, 1) if each.at > killed_at]
    assert any("taken over" in what for what in since)
    assert not any("takes no new requests" in what for what in since)


def test_controller_dies_while_a_version_loads(app: Serving, load: Load, folder: Path, zoo: Zoo) -> None:
    """A load that was under way is finished by the next controller: the version takes over, and exists once."""
    add_version(zoo.path(MODEL, 2), folder, 2)
    # A load may be over before it is seen to be under way.
    wait_for("the load", lambda: 2 in app.versions(MODEL) and app.versions(MODEL)[2].state is not PublicState.START)
    kill_controller(app)
    load.wait_for_answer_of(2)
    wait_for("version 1 to be gone", lambda: app.apps() == {app.name, f"{app.name}:{MODEL}@2"})
    wait_for("two replicas", lambda: len(app.replicas(MODEL, 2)) == 2)
    load.assert_nothing_failed()


def test_controller_dies_during_many_loads(door_port: int, tmp_path: Path) -> None:
    """Of loads that are at different points when the controller dies each ends ready, none is begun twice, and no
    request to the versions that were ready fails."""
    loads = Loads("many_loads", tmp_path, at_once=4)
    with loads.deployed():
        outcome = loads.round(MOMENTS["half have begun"])
    assert not outcome.faults
    assert outcome.answers > 0
