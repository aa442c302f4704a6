"""What a thread that waits for its call gets where a lane leads to the replica: it makes the call by itself."""

from __future__ import annotations

import asyncio
import pickle
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from serving_app.client import lone_calls
from serving_app.client.connection import Connection, connect
from serving_app.client.remote_errors import Lost
from serving_app.core.errors import DeadlineExceeded, InvalidArgument, ServingError, Unavailable
from serving_app.core.traffic import Mirror, Traffic
from tests.client.small_app import App, table
from tests.stepping import PATIENCE_S


@pytest.fixture
def near(app: App, monkeypatch: pytest.MonkeyPatch) -> Iterator[Connection]:
    """A connection to an app with a lane to its replica."""
    monkeypatch.setattr(lone_calls, "_CONNECT_S", PATIENCE_S)
    monkeypatch.setattr("serving_app.client.courier._PATIENCE_S", PATIENCE_S)
    app.open_door()
    with connect() as connection:
        wait_for(connection, 2)
        lanes = connection._linked()._callers._hops["m@1"].lanes
        while not len(lanes):
            time.sleep(0.001)
        yield connection
    app.close_door()


def wait_for(connection: Connection, revision: int) -> None:
    """Returns when the connection follows a table that is so new."""
    while connection._linked().table.revision < revision:
        time.sleep(0.001)


def wires(connection: Connection) -> int:
    return len(connection._linked()._lone._wires)


def test_a_thread_that_waits_calls_by_itself(app: App, near: Connection) -> None:
    """The call takes a connection of its own, is answered as on any other way, and holds no table afterwards."""
    model = near.model("m")
    for value in (1.0, 2.0):
        answer = model.predict(x=[value])["y"]
        assert answer.tolist() == [value / 2 + 2]
        assert answer.base is None  # it keeps nothing alive that came with it
    assert wires(near) == 1
    assert app.asked_on_lanes == 2
    assert near._linked()._follower._in_threads == {}


def test_an_answer_names_the_version(app: App, near: Connection) -> None:
    """Whoever makes the call, and wherever the answer is taken."""
    model = near.model("m")
    for answer in (model.predict(x=[1.0]), asyncio.run(model.predict_async(x=[1.0]))):
        for each in (answer, pickle.loads(pickle.dumps(answer))):
            assert (each.version, each["y"].tolist(), list(each)) == (1, [2.5], ["y"])


def test_what_is_asked_so_is_counted(app: App, near: Connection) -> None:
    """Answers, refusals and errors count as those of any other call."""
    model = near.model("m")
    model.predict(x=[1.0])
    app.outcomes = [lambda: InvalidArgument("no")]
    with pytest.raises(InvalidArgument, match=r"^no$"):
        model.predict(x=[1.0])
    app.outcomes = [lambda: Unavailable("not now")]
    model.predict(x=[1.0], timeout=PATIENCE_S)
    near.close()
    assert app.counted() == {
        ("m", "OK", "1", "serving_default", "latest"): 2,
        ("m", "INVALID_ARGUMENT", "1", "serving_default", "latest"): 1,
        ("m", "UNAVAILABLE", "1", "serving_default", "latest"): 1,
    }
    assert app.asked_on_lanes == 4


def test_what_is_refused_is_asked_again_by_the_loop(app: App, near: Connection) -> None:
    """Within the call's time, after pauses, as without a connection of one's own."""
    app.outcomes = [lambda: Unavailable("this version is being unloaded; try again")] * 3
    assert near.model("m").predict(x=[1.0], timeout=PATIENCE_S)["y"].tolist() == [2.5]
    assert app.asked_on_lanes == 4


def test_a_hop_that_is_given_up_as_a_whole_may_have_run(app: App, near: Connection) -> None:
    """It is not asked again."""
    app.outcomes = [Unavailable("the replica gave the request up; try again")]
    with pytest.raises(Lost, match="gave the request up"):
        near.model("m").predict(x=[1.0], timeout=PATIENCE_S)
    assert app.asked_on_lanes == 1


@pytest.mark.parametrize("is_alone", [False, True])
def test_a_replica_that_dies_under_a_call_means_one_more_try(app: App, near: Connection, is_alone: bool) -> None:
    """The call is made elsewhere; where nobody answers either, the caller hears that it may have been run."""
    def die() -> ServingError | None:
        app.break_lanes()
        for server in app.replica._servers:
            server.close()
        return None

    app.outcomes = [die, *([Unavailable("no replica is here")] * is_alone)]
    model = near.model("m")
    if is_alone:
        with pytest.raises(Lost):
            model.predict(x=[1.0], timeout=PATIENCE_S)
    else:
        assert model.predict(x=[1.0], timeout=PATIENCE_S)["y"].tolist() == [2.5]
    assert app.asked_on_lanes == 1
    assert len(app.calls) == 2


def test_a_call_out_of_time_is_given_up(app: App, near: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told so in the words of any other call."""

    def late(*_: object) -> Any:
        raise TimeoutError

    monkeypatch.setattr(near._linked()._lone, "ask", late)
    with pytest.raises(DeadlineExceeded, match=r"^m gave no answer within 5.0 s$"):
        near.model("m").predict(x=[1.0], timeout=5)


def test_requests_that_are_to_be_copied_are_the_loops(app: App, near: Connection) -> None:
    """Copies are made there."""
    routes = near._linked().table
    one = routes.models["m"]
    shared = replace(
        one,
        routes={**one.routes, 2: replace(one.routes[1], servable=replace(one.routes[1].servable, version=2))},
        traffic={"": Traffic({1: 100.0}, mirror=Mirror(2, 100.0))},
    )
    app.publish(replace(routes, revision=3, models={"m": shared}))
    wait_for(near, 3)
    assert near.model("m").predict(x=np.array([1.0]))["y"].tolist() == [2.5]
    assert wires(near) == 0


def test_a_version_without_lanes_is_called_as_ever(app: App) -> None:
    """By the loop and the handle."""
    with connect() as connection:
        assert connection.model("m").predict(x=[1.0])["y"].tolist() == [2.5]
        assert wires(connection) == 0
    assert app.asked_on_lanes == 0
    assert table(1).doors == {}
