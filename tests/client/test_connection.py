"""Connections and models, on a controller and a replica of this process: what calls send, and who shares what."""

from __future__ import annotations

import asyncio
import gc
import pickle
import signal
import threading
from typing import Any

import numpy as np
import pandas as pd
import pytest
import ray
from ray.exceptions import ActorDiedError, ActorUnavailableError, RaySystemError
from ray.serve.exceptions import DeploymentUnavailableError

from serving_app.client import link, link_loop
from serving_app.client.connection import Connection, connect
from serving_app.client.control import Control, Unreachable, join_cluster
from serving_app.client.model import Model
from serving_app.client.remote_errors import Lost
from serving_app.core.errors import (
    Code,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    RuntimeFailure,
    ServingError,
    Unavailable,
)
from serving_app.core.events import ReaderJoined, ReaderLeft
from serving_app.core.families import CALLER_REQUESTS
from serving_app.core.metrics import Snapshot
from serving_app.core.routing import VersionStatus
from serving_app.core.servable import ModelSpec, ServableId
from serving_app.core.states import PublicState
from serving_app.core.traffic import no_attributes
from serving_app.protocol import messages
from serving_app.protocol.calls import Call
from tests.client.small_app import SIGNATURES, App, table
from tests.stepping import PATIENCE_S, until


@pytest.mark.parametrize(
    "given",
    [{"x": [1.0, 2.0]}, [1, 2], np.array([1.0, 2.0]), [{"x": 1}, {"x": 2}], pd.DataFrame({"x": [1, 2]}), (1, 2)],
    ids=["columns", "list", "array", "rows", "pandas", "tuple"],
)
def test_predictions(app: App, given: Any) -> None:
    """Inputs in every form are answered with arrays, sync and async, within and without a running loop."""
    right = {"y": [2.5, 3.0]}

    async def ask() -> list[Any]:
        return [await model.predict_async(given), model.predict(given)]

    with connect() as connection:
        model = connection.model("m")
        answers = [model.predict(given), *asyncio.run(ask())]
        assert [{name: array.tolist() for name, array in answer.items()} for answer in answers] == [right] * 3


def test_inputs_by_keyword(app: App) -> None:
    """Inputs by keyword join those of a mapping; a value without a name is not joined by any."""
    with connect() as connection:
        model = connection.model("m")
        assert model.predict(x=[1.0])["y"].tolist() == [2.5]
        assert model.predict({"x": [5.0]}, x=[1.0])["y"].tolist() == [2.5]
        with pytest.raises(InvalidArgument, match="unknown 'z'"):
            model.predict({"x": [1.0]}, z=1)
        with pytest.raises(InvalidArgument, match="a value without a name was given beside others"):
            model.predict([1.0], z=1)
        with pytest.raises(InvalidArgument, match="missing 'x'"):
            model.predict()


@pytest.mark.parametrize("options", [{"outputs": "y"}, {"timeout": float("nan")}, {"timeout": "1"}, {"timeout": -1}])
def test_options_that_make_no_sense_are_refused(app: App, options: dict[str, Any]) -> None:
    """What is wrong is told by name before anything is sent; a time that no clock counts to is no limit."""
    with connect() as connection:
        model = connection.model("m")
        with pytest.raises(InvalidArgument, match=next(iter(options))):
            model.predict(x=[1.0], **options)
        assert app.calls == []
        assert model.predict(x=[1.0], timeout=float("inf"))["y"].tolist() == [2.5]


def test_examples(app: App) -> None:
    """Classify answers with pairs of label and score for each example, Regress with an array; they count as such."""

    async def ask() -> None:
        classes = await model.classify_async(x=[1, 2], signature_name="classify")
        assert classes == [[("red", 0.5)], [("red", 0.5)]]
        assert (await model.regress_async(rows, signature_name="regress")).tolist() == [0.0, 1.0]

    with connect() as connection:
        model = connection.model("m")
        rows = [{"x": 1.5}, {"x": 2.5}]
        assert model.classify(rows, signature_name="classify", context={"c": "all"}) == [[("red", 0.5)], [("red", 0.5)]]
        _, call = app.calls[0]
        assert (call.signature_name, call.outputs, call.api) == ("classify", ("classes", "scores"), "Classify")
        first = messages.Example.FromString(call.inputs["inputs"][0]).features.feature
        assert (first["x"].float_list.value[0], first["c"].bytes_list.value[0]) == (1.5, b"all")
        assert model.regress(x=[1.5, 2.5, 3.5], signature_name="regress").tolist() == [0.0, 1.0, 2.0]
        assert app.calls[1][1].api == "Regress"
        asyncio.run(ask())
        with pytest.raises(InvalidArgument, match="Input is empty"):
            model.classify([], signature_name="classify")
        with pytest.raises(InvalidArgument, match="No classification inputs found"):
            model.classify(rows)


def test_what_a_model_tells_of_itself(app: App) -> None:
    """Metadata and status are those of the version that the name means, and names that mean none are NOT_FOUND."""
    with connect() as connection:
        model = connection.model("m", label="stable")
        metadata = model.metadata()
        assert (metadata.servable, metadata.signatures) == (ServableId("m", 1), SIGNATURES)
        assert "input  x  float [?]" in str(metadata)
        assert model.status() == (VersionStatus(1, PublicState.AVAILABLE),)
        assert repr(model) == "Connection('default').model('m', label='stable')"
        assert repr(connection.model("m", version=2)) == "Connection('default').model('m', version=2)"
        for ask in (connection.model("m", version=2).metadata, connection.model("z").predict):
            with pytest.raises(NotFound, match="Servable not found for request"):
                ask()
        with pytest.raises(InvalidArgument, match="Unrecognized servable version label: canary"):
            connection.model("m", label="canary").predict(x=[1])
        with pytest.raises(ValueError, match="name a version or a label, not both"):
            connection.model("m", version=1, label="stable")


def refused() -> ServingError:
    return Unavailable("this version is being unloaded; try again")


@pytest.mark.parametrize("outcome", [refused, DeploymentUnavailableError(None)], ids=["by the replica", "by Serve"])
def test_what_was_refused_is_tried_again(app: App, outcome: Any) -> None:
    """A call that nobody has begun to work on is made again, until somebody answers."""
    with connect() as connection:
        app.outcomes = [outcome] * 3
        assert connection.model("m").predict(x=[1.0], timeout=PATIENCE_S)["y"].tolist() == [2.5]
        assert app.outcomes == []
        app.outcomes = [outcome] * 3
        assert connection.model("m").predict(x=[1.0], timeout=None)["y"].tolist() == [2.5]


def test_what_may_have_been_done_is_not_tried_again(app: App) -> None:
    """A call whose replica died under it fails, and so does one that was wrong or came too late."""
    with connect() as connection:
        for outcome, kind in (
            (ActorDiedError(), Lost),
            (lambda: DeadlineExceeded("late"), DeadlineExceeded),
            (lambda: InvalidArgument("wrong"), InvalidArgument),
        ):
            app.outcomes, app.calls = [outcome], []
            with pytest.raises(kind):
                connection.model("m").predict(x=[1.0], timeout=PATIENCE_S)
            assert len(app.calls) == 1


def test_a_refusal_is_told_when_there_is_no_time_for_another_try(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the pause would end after the deadline the caller hears at once what was the matter."""
    monkeypatch.setattr("serving_app.client.link._FIRST_PAUSE_S", 10 * PATIENCE_S)
    with connect() as connection:
        for timeout in (PATIENCE_S, None):
            app.outcomes = [refused]
            with pytest.raises(Unavailable, match="this version is being unloaded"):
                connection.model("m").predict(x=[1.0], timeout=timeout)


def test_a_deadline_ends_a_call(app: App) -> None:
    """A call that has no time left is answered with DEADLINE_EXCEEDED."""
    with connect() as connection, pytest.raises(DeadlineExceeded, match=r"m gave no answer within 0.0 s"):
        connection.model("m").predict(x=[1.0], timeout=0.0)


@pytest.fixture
def patient_farewells(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who leaves waits until what it has counted is taken."""
    monkeypatch.setattr("serving_app.client.courier._PATIENCE_S", PATIENCE_S)


@pytest.mark.usefixtures("patient_farewells")
def test_what_is_asked_is_counted(app: App) -> None:
    """When a connection is closed the app knows of all that was asked on it: what came of it, and by which version; of
    a call that was tried again what came of each try; and of what was wrong before it was a call."""
    with connect() as connection:
        latest, labelled = connection.model("m"), connection.model("m", label="stable")
        for _ in range(3):
            labelled.predict(x=[1.0])
        connection.model("m", version=1).regress(a=[1.0], signature_name="regress")
        app.outcomes = [refused] * 2
        latest.predict(x=[1.0], timeout=PATIENCE_S)
        for outcome in (ActorDiedError(), RuntimeFailure(Code.INTERNAL, "no"), DeadlineExceeded("late")):
            app.outcomes = [outcome]
            with pytest.raises(ServingError):
                latest.predict(x=[1.0], timeout=PATIENCE_S)
        unknown = [connection.model("m", version=7), connection.model("m", label="z"), connection.model("z")]
        wrongs: list[tuple[Model, dict[str, Any]]] = [(latest, {"z": 1.0}), (latest, {"x": [1.0], "timeout": 0.0})]
        for ask, wrong in (*wrongs, *((each, {"x": [1.0]}) for each in unknown)):
            with pytest.raises(ServingError):
                ask.predict(**wrong)
    assert app.counted() == {
        ("m", "OK", "1", "serving_default", "label"): 3,
        ("m", "OK", "1", "regress", "number"): 1,
        ("m", "OK", "1", "serving_default", "latest"): 1,
        ("m", "UNAVAILABLE", "1", "serving_default", "latest"): 3,
        ("m", "INTERNAL", "1", "serving_default", "latest"): 1,
        ("m", "DEADLINE_EXCEEDED", "1", "serving_default", "latest"): 2,
        ("m", "INVALID_ARGUMENT", "1", "", "latest"): 1,
        ("m", "NOT_FOUND", "", "", "number"): 1,
        ("z", "NOT_FOUND", "", "", "latest"): 1,
        ("m", "INVALID_ARGUMENT", "", "", "label"): 1,
    }


@pytest.mark.usefixtures("patient_farewells")
def test_who_looks_at_the_metrics_sees_what_it_has_asked(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it, as the app is told before it is asked."""

    async def metrics(control: Control) -> Snapshot:
        return {CALLER_REQUESTS.name: app.counted()}

    monkeypatch.setattr(Control, "metrics", metrics)
    with connect() as connection:
        for asked in (1, 2, 3):
            connection.model("m").predict(x=[1.0], timeout=PATIENCE_S)
            counts = connection.metrics()[CALLER_REQUESTS.name]
            assert counts == {("m", "OK", "1", "serving_default", "latest"): asked}


@pytest.mark.usefixtures("patient_farewells")
def test_a_request_that_the_routes_leave_behind_is_counted(app: App) -> None:
    """Between its making and its leaving the routes move to a version that takes other inputs."""

    def make(signatures: Any) -> Call:
        if signatures is not SIGNATURES:
            raise InvalidArgument("no")
        return Call("serving_default", {"x": np.ones(1, np.float32)})

    with connect() as connection:
        shared = connection._linked()
        made = [shared.make_request(ModelSpec("m"), no_attributes, make) for _ in range(2)]
        app.publish(table(2, 2, {}))
        asyncio.run(until(lambda: shared.table.revision == 2))
        with pytest.raises(InvalidArgument):
            shared.ask(made[0])
        with pytest.raises(InvalidArgument):
            link_loop.wait(shared.call(made[1]))
    assert app.counted() == {
        ("m", "INVALID_ARGUMENT", "", "", "latest"): 1,
        ("m", "INVALID_ARGUMENT", "", "serving_default", "latest"): 1,
    }


@pytest.mark.usefixtures("patient_farewells")
def test_a_process_that_ends_tells_what_it_has_asked(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that closes nothing, and without a look for the controller, for which it could start no thread any more.
    """

    async def find_controller(name: str) -> Any:
        raise RuntimeError("cannot schedule new futures after interpreter shutdown")

    connection = connect()
    connection.model("m").predict(x=[1.0], timeout=PATIENCE_S)
    monkeypatch.setattr("serving_app.client.link.find_controller", find_controller)
    monkeypatch.setattr("serving_app.client.link._GOOD_BYE_S", PATIENCE_S)
    link._say_good_bye()
    assert app.counted() == {("m", "OK", "1", "serving_default", "latest"): 1}


def test_who_is_interrupted_calls_off(app: App) -> None:
    """Ctrl-C ends a call that blocks, nothing of it goes on in the background, and the next call is answered."""
    main = threading.main_thread().ident
    assert main is not None

    def interrupt() -> ServingError:
        signal.pthread_kill(main, signal.SIGINT)
        return refused()

    with connect() as connection:
        app.outcomes = [interrupt, *[refused] * 10_000]
        with pytest.raises(KeyboardInterrupt):
            connection.model("m").predict(x=[1.0], timeout=None)
        shared = link._links["default", "here"]
        asyncio.run(until(lambda: not shared._follower._in_use))
        app.outcomes = []
        assert connection.model("m").predict(x=[1.0])["y"].tolist() == [2.5]


def test_another_try_follows_the_routes(app: App) -> None:
    """A call that is tried again goes to the version that its name means by then, in that one's types."""
    with connect() as connection:
        shared = link.hold("default")

        def move() -> ServingError:
            app.followers.publish(table(2, 2, {"serving_default": SIGNATURES["integers"]}))
            return refused()

        def wait_for_table() -> ServingError | None:
            return None if shared.table.revision == 2 else refused()

        app.outcomes = [move, *[wait_for_table] * 10_000]
        assert connection.model("m").predict(x=[1], timeout=PATIENCE_S)["y"].tolist() == [2.5]
        assert (app.calls[0][0], app.calls[0][1].inputs["x"].dtype) == ("m@1", np.float32)
        where, call = app.calls[-1]
        if where == "m@2":  # the first try that was answered may have left before the table came
            assert call.inputs["x"].dtype == np.int64
        app.outcomes = []
        assert connection.model("m").predict(x=[1])["y"].tolist() == [2.5]
        assert (app.calls[-1][0], app.calls[-1][1].inputs["x"].dtype) == ("m@2", np.int64)
        link.let_go(shared)


def test_a_process_follows_an_app_once(app: App) -> None:
    """Connections of one process share what they follow; the last one that is closed says good-bye."""
    first, second = connect(), connect()
    model = first.model("m")
    assert app.count(ReaderJoined) == 1
    first.close()
    first.close()
    assert app.count(ReaderLeft) == 0
    for ask in (model.metadata, model.labels, lambda: model.predict(x=[1.0])):
        with pytest.raises(Unavailable, match="this connection is closed; connect again"):
            ask()
    assert second.model("m").predict(x=[1.0])["y"].tolist() == [2.5]
    second.close()
    assert app.count(ReaderLeft) == 1
    with connect() as third:
        assert third.model("m").predict(x=[1.0])["y"].tolist() == [2.5]
    assert app.count(ReaderJoined) == app.count(ReaderLeft) == 2


def test_a_connection_that_is_forgotten_is_closed(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who connects, asks and keeps nothing leaves nobody behind; while the link lingers, the next one takes it over."""
    assert connect().model("m").predict(x=[1.0])["y"].tolist() == [2.5]
    gc.collect()
    assert connect().model("m").predict(x=[1.0])["y"].tolist() == [2.5]
    gc.collect()
    assert (app.count(ReaderJoined), app.count(ReaderLeft)) == (1, 0)
    link_loop.run(link._stop_all()).result(PATIENCE_S)
    monkeypatch.setattr("serving_app.client.link._LINGER_S", 0.0)
    connect().model("m").predict(x=[1.0])
    gc.collect()
    asyncio.run(until(lambda: app.count(ReaderLeft) == 2))


def test_models_may_be_pickled(app: App) -> None:
    """What a task closes over connects there when it is used first, from any number of threads, sync or async."""
    with connect() as connection:
        pickled = pickle.dumps(connection.model("m", label="stable"))
    assert app.count(ReaderLeft) == 1
    for ask in (lambda model: model.predict(x=[1.0]), lambda model: asyncio.run(model.predict_async(x=[1.0]))):
        model = pickle.loads(pickled)
        answers: list[Any] = []
        threads = [threading.Thread(target=lambda: answers.append(ask(model)["y"].tolist())) for _ in range(4)]  # noqa: B023 - joined in this turn
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answers == [[2.5]] * 4
        assert app.count(ReaderJoined) == 2
    assert pickle.loads(pickled).status() == (VersionStatus(1, PublicState.AVAILABLE),)


def test_without_an_app_there_is_no_connection(app: App) -> None:
    """The error says what is missing, each time anew, and nothing is left behind."""
    for _ in range(2):
        with pytest.raises(Unreachable, match="no serving app named 'other'"):
            connect("other")
    assert link._links == {}


def test_a_controller_that_starts_again_is_waited_for(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who connects while the controller is away waits until it is back; what Ray raises is told as an error of ours."""
    monkeypatch.setattr("serving_app.client.link.RETRY_S", 0.0)
    app.losses = [ActorUnavailableError("away", None), ActorDiedError()]
    with connect() as connection:
        assert connection.model("m").predict(x=[1.0])["y"].tolist() == [2.5]
    assert app.losses == []
    app.losses = [RaySystemError("no way")]
    with pytest.raises(Unavailable, match="tells no routes now"):
        connect()
    monkeypatch.setattr("serving_app.client.link.TIMEOUT_S", 0.0)
    app.losses = [ActorDiedError()]
    with pytest.raises(Unavailable, match="tells no routes now"):
        connect()
    assert link._links == {}


def test_a_process_that_left_its_cluster_looks_for_no_other(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection of a process that has shut Ray down says so, and does not make Ray start a cluster."""
    with connect() as connection:
        shared = link._links["default", "here"]
        model = connection.model("m")
        for now in ("", "elsewhere"):
            monkeypatch.setattr("serving_app.client.link.cluster_of_process", lambda now=now: now)
            asks = (
                lambda: link_loop.run(shared._find_controller()).result(PATIENCE_S),
                lambda: model.predict(x=[1.0]),
                lambda: asyncio.run(model.predict_async(x=[1.0])),
            )
            for ask in asks:
                with pytest.raises(Unreachable, match="this process has left the Ray cluster"):
                    ask()
        link_loop.run(link._stop_all()).result(PATIENCE_S)
        assert app.count(ReaderLeft) == 0  # Ray would start a cluster to tell nobody
        monkeypatch.setattr("serving_app.client.link.cluster_of_process", lambda: "here")


def test_a_forked_process_is_told(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray does not survive a fork, and who tries would wait for ever: the error says what to do instead."""
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr("serving_app.client.link_loop._is_forked", False)
    link_loop._note_fork()
    for use in (connect, Connection("default").status, Connection("default").model("m").predict):
        with pytest.raises(FailedPrecondition, match="was forked from one that is part of a Ray cluster"):
            use()


def test_ray_client_is_no_way_in() -> None:
    """Through Ray Client a process is not part of the cluster; the error tells of the ways that there are."""
    with pytest.raises(FailedPrecondition, match="ray job submit"):
        join_cluster("ray://head:10001")


@pytest.mark.parametrize(
    ("joined", "is_other"),
    [("127.0.0.1:1", True), ("127.0.0.1:6379", False), ("192.0.2.1:6379", True), ("192.0.2.7:6379", False)],
)
def test_a_process_is_part_of_one_cluster(monkeypatch: pytest.MonkeyPatch, joined: str, is_other: bool) -> None:
    """Another address than that of the process's cluster is refused; another name of the same host may be right."""

    class Context:
        gcs_address = joined

    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray, "get_runtime_context", Context)
    join_cluster()
    join_cluster(joined)
    if is_other:
        with pytest.raises(FailedPrecondition, match=f"is part of the Ray cluster at {joined} already"):
            join_cluster("192.0.2.7:6379")
    else:
        join_cluster("192.0.2.7:6379")
