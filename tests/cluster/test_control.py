"""What users change at run time, on a real cluster: it takes effect at once, touches nothing else, and stays."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from tensorflow_serving.apis import model_management_pb2, model_service_pb2_grpc

from serving_app import connect
from serving_app.core.errors import FailedPrecondition
from serving_app.core.states import PublicState, State
from tests.cluster.asking import Load, ask_everywhere, ask_rest, open_rest, steadily
from tests.cluster.serving import Serving, kill, serving
from tests.cluster.waiting import wait_for
from tests.zoo import Zoo

pytestmark = pytest.mark.cluster

MODEL = "half_plus_two"
LABELLED = f"{MODEL}/labels/stable"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, zoo: Zoo) -> Path:
    """The base path of the model, with versions 1 and 2."""
    path = tmp_path_factory.mktemp("control") / MODEL
    for version in (1, 2):
        shutil.copytree(zoo.path(MODEL, version), path / str(version))
    return path


@pytest.fixture(scope="module")
def app(door_port: int, folder: Path) -> Iterator[Serving]:
    """One app for all tests here, which serves both versions; each test leaves it so."""
    with serving("control", door_port) as app:
        app.deploy({MODEL: {"base_path": str(folder), "version_policy": "all"}})
        for version in (1, 2):
            app.wait_for_version(MODEL, version)
        yield app


@pytest.fixture
def load(app: Serving) -> Iterator[Load]:
    """Steady requests through every door; none may fail, whatever is changed."""
    with steadily(ask_everywhere(app), pause_s=0.02) as load:
        yield load
        load.wait_for_more()
        load.assert_nothing_failed()


def reload(app: Serving, *models: dict[str, Any], timeout: float = 60.0) -> Any:
    """Ask for these models with the stock stub."""
    request = model_management_pb2.ReloadConfigRequest()
    request.config.model_config_list.SetInParent()
    for model in models:
        request.config.model_config_list.config.add(model_platform="tensorflow", **model)
    with grpc.insecure_channel(f"127.0.0.1:{app.grpc_port}") as channel:
        return model_service_pb2_grpc.ModelServiceStub(channel).HandleReloadConfigRequest(request, timeout=timeout)


def test_a_label_moves_at_once_and_survives_the_controller(app: Serving, load: Load) -> None:
    """When the call returns every gateway routes by the label, and a controller that is killed does not forget it."""
    with connect(app.name) as connection:
        model = connection.model(MODEL)
        for version in (2, 1, 2):
            model.set_label("stable", version)
            assert ask_rest(app, LABELLED)() == version
        with pytest.raises(FailedPrecondition, match="assign label to version 9 of model half_plus_two, which is not"):
            model.set_label("stable", 9)
        replicas = app.replicas(MODEL, 1) | app.replicas(MODEL, 2)
        kill(app.controller_pid())
        wait_for("the versions to be adopted", lambda: app.versions(MODEL).keys() == {1, 2})
        assert ask_rest(app, LABELLED)() == 2
        assert app.replicas(MODEL, 1) | app.replicas(MODEL, 2) == replicas
        assert model.labels() == {"stable": 2}
        happened = [str(each) for each in connection.history(MODEL)]
        assert any("label stable" in each for each in happened), happened  # from before the restart
        model.delete_label("stable")
        assert model.labels() == {}
    assert load.answers


def test_a_reload_adds_and_removes_models_and_leaves_the_others(app: Serving, load: Load, folder: Path) -> None:
    """A stock client's HandleReloadConfigRequest returns when new models answer; the replicas of others stay."""
    replicas = app.replicas(MODEL, 2)
    policy = {"model_version_policy": {"all": {}}}
    kept = {"name": MODEL, "base_path": str(folder), **policy}
    answer = reload(app, {**kept, "version_labels": {"stable": 1}}, {"name": "other", "base_path": str(folder)})
    assert answer.status.error_code == 0
    assert ask_rest(app, "other")() == 2
    assert ask_rest(app, LABELLED)() == 1
    with pytest.raises(grpc.RpcError) as caught:
        reload(app, kept, {"name": "other", "base_path": "relative"})
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "Expected model other to have an absolute path or URI; got base_path()=relative" in caught.value.details()
    assert ask_rest(app, "other")() == 2
    reload(app, kept)
    wait_for("the other model to be gone", lambda: "other" not in str(app.apps()))
    assert app.replicas(MODEL, 2) == replicas
    assert load.answers


def test_a_reload_tells_of_a_model_that_fails(app: Serving, folder: Path, tmp_path: Path) -> None:
    """A new model that cannot be loaded fails the call in TensorFlow Serving's words; no wait outlasts the caller."""
    version = tmp_path / "torn" / "1"
    version.mkdir(parents=True)
    (version / "saved_model.pb").write_bytes(b"\x12\x00")  # a whole SavedModel, of one graph, which is empty
    kept = {"name": MODEL, "base_path": str(folder), "model_version_policy": {"all": {}}}
    with pytest.raises(grpc.RpcError) as caught:
        reload(app, kept, {"name": "torn", "base_path": str(tmp_path / "torn")})
    assert caught.value.code() is grpc.StatusCode.UNKNOWN
    start = "1 model(s) did not become available: {{{name: torn version: 1} due to error: "
    assert caught.value.details().startswith(start)
    with pytest.raises(grpc.RpcError) as caught:
        reload(app, kept, {"name": "empty", "base_path": str(tmp_path)}, timeout=1.0)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    reload(app, kept)
    assert app.view().models.keys() >= {MODEL}


def test_settings_are_planned_and_applied(app: Serving, load: Load) -> None:
    """A plan tells what would happen; replicas are added beside those that run; what cannot change now is refused."""
    with connect(app.name) as connection:
        before = connection.config()
        more = before.replace("replicas: null", "replicas: 2", 1)
        assert more != before
        plan = connection.apply(more, dry_run=True)
        assert [(change.model, change.setting) for change in plan.changes] == [(MODEL, "replicas")]
        assert connection.config() == before
        pids = app.replicas(MODEL, 1)
        connection.apply(more)
        wait_for("a second replica", lambda: len(app.replicas(MODEL, 1)) == 2)
        assert pids.items() <= app.replicas(MODEL, 1).items()
        with pytest.raises(FailedPrecondition, match="rest_port"):
            connection.apply(re.sub(r"rest_port: \d+", "rest_port: 1", more))
        connection.apply(before)
        wait_for("one replica", lambda: len(app.replicas(MODEL, 1)) == 1)
        assert connection.config() == before
    assert load.answers


def test_batching_changes_under_way(app: Serving, load: Load) -> None:
    """Settings of batching reach the replicas that run, are followed by a version that is loaded, and lose no request.
    """
    rest = open_rest(app)

    def ask_much() -> int:
        return rest.request("POST", f"/v1/models/{MODEL}:predict", {"instances": [1.0] * 5})[0]

    with connect(app.name) as connection:
        before = connection.config()
        small = before.replace("batching: null", "batching: {max_batch_size: 4}", 1)
        assert small != before
        replicas = app.replicas(MODEL, 2)
        connection.apply(small)
        wait_for("a request to be too large for a batch", lambda: ask_much() == 400)
        load.wait_for_more()
        connection.apply(before)
        wait_for("batching to be off", lambda: ask_much() == 200)
        assert app.replicas(MODEL, 2) == replicas


def test_a_version_that_fits_nowhere_is_told_and_not_tried(app: Serving, folder: Path) -> None:
    """No application is deployed for it; what it needs and what there is, is told; it is loaded once it fits."""
    with connect(app.name) as connection:
        before = connection.config()
        connection.apply(f"models: {{{MODEL}: {{base_path: {folder}, version_policy: all}}, "
                         f"huge: {{base_path: {folder}, num_gpus: 100}}}}")
        status = app.wait_for_version("huge", 2, PublicState.END)
        assert "Insufficient resources to load servable {name: huge version: 2}" in status.message
        assert "100 GPUs" in status.message
        assert not [name for name in app.apps() if "huge" in name]
        assert app.view().models["huge"].versions[0].state is State.UNFIT
        connection.apply(f"models: {{{MODEL}: {{base_path: {folder}, version_policy: all}}, "
                         f"huge: {{base_path: {folder}, num_gpus: 1}}}}")
        app.wait_for_version("huge", 2)
        connection.apply(before)
        wait_for("it to be gone", lambda: "huge" not in str(app.apps()))


def test_a_file_of_models_is_followed(new_serving: Any, folder: Path, tmp_path: Path) -> None:
    """The file is read in TensorFlow Serving's form or ours; one that is half written changes nothing and is told."""
    path = tmp_path / "models.config"
    config = f'config {{ name: "a" base_path: "{folder}" model_platform: "tensorflow" }}'
    path.write_text(f"model_config_list {{ {config} }}")
    app = new_serving()
    app.deploy({}, model_config_file=str(path), model_config_file_poll_s=0.1)
    app.wait_for_version("a", 2)
    path.write_text(f"model_config_list {{ {config[:-1]}")
    wait_for("the problem to be told", lambda: str(path) in str(app.view().problems))
    assert ask_rest(app, "a")() == 2
    path.write_text(f"models: {{a: {folder}, b: {folder}}}")
    app.wait_for_version("b", 2)
    assert ask_rest(app, "a")() == 2
    assert app.view().problems == ()
