"""Rollouts on a real cluster: what is good is promoted, what is bad turned away, whatever becomes of the controller."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

import pytest

from serving_app import connect
from serving_app.core.errors import Code, DeadlineExceeded, FailedPrecondition, ServingError
from serving_app.core.families import CALLER_REQUESTS
from serving_app.core.metrics import Labels, Snapshot, Value
from serving_app.core.rollout import Phase, Rollout
from serving_app.core.states import State
from tests.cluster.asking import QUESTION, Rest, ask_rest, steadily, version_of
from tests.cluster.serving import Serving, add_version, kill, serving
from tests.cluster.waiting import PATIENCE_S, wait_for
from tests.zoo import Zoo

pytestmark = pytest.mark.cluster

T = TypeVar("T")

MODEL = "half_plus_two"
LABELLED = f"{MODEL}/labels/stable"
TOKEN = "a-token-for-the-tests"

STEPWISE = {
    "steps": [50, {"pause_s": "until_told"}, 80],
    "gates": [{"measure": "error_rate", "max_increase": 0.1, "min_samples": 10}],
    "interval_s": 0.2,
    "patience_s": 3600,
    "keep_s": 3600,
}
WARY = {
    "steps": [{"mirror": 100}, {"pause_s": "until_told"}, 50],
    "gates": [{"measure": "disagreement", "max": 0.1, "min_samples": 10}],
    "interval_s": 0.2,
}


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory, zoo: Zoo) -> Path:
    """The base path of a model whose second version is to come later."""
    path = tmp_path_factory.mktemp("rollouts") / MODEL
    shutil.copytree(zoo.path(MODEL, 1), path / "1")
    return path


@pytest.fixture(scope="module")
def asked_by_jobs(tmp_path_factory: pytest.TempPathFactory, zoo: Zoo) -> Path:
    """The base path of a model whose second version answers otherwise, and whose third one takes other inputs."""
    path = tmp_path_factory.mktemp("jobs") / "jobs"
    for version, source in ((1, zoo.path(MODEL, 1)), (2, zoo.path(MODEL, 2)), (3, zoo.path("dense"))):
        shutil.copytree(source, path / str(version))
    return path


@pytest.fixture(scope="module")
def token_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file with the token of those who may change something by HTTP."""
    path = tmp_path_factory.mktemp("tokens") / "tokens"
    path.write_text(TOKEN)
    return path


@pytest.fixture(scope="module")
def app(door_port: int, zoo: Zoo, held: Path, asked_by_jobs: Path, token_file: Path) -> Iterator[Serving]:
    """One app for all tests here, with models whose labels they move, and one whose new versions are rolled out."""
    labelled = {"base_path": zoo.base(MODEL), "version_policy": {"specific": [1]}, "labels": {"stable": 1}}
    models = {
        MODEL: labelled,
        "wary": {"base_path": str(held), "rollout": "wary", "placement": "colocated"},
        "jobs": {**labelled, "base_path": str(asked_by_jobs), "placement": "colocated"},
    }
    with serving("rollouts", door_port) as app:
        gateway = {"control_token_file": str(token_file)}
        app.deploy(models, gateway=gateway, rollout_strategies={"stepwise": STEPWISE, "wary": WARY})
        for model in models:
            app.wait_for_version(model, 1)
        yield app


def patiently(ask: Callable[..., T], *arguments: Any) -> T | None:
    """The answer of a controller that may be starting again; None if it takes long."""
    try:
        return ask(*arguments)
    except DeadlineExceeded:
        return None


def ready_versions(app: Serving, model: str) -> set[int]:
    """The versions that can be asked, as the controller knows it."""
    return {each.servable.version for each in app.view().models[model].versions if each.state is State.READY}


def test_a_good_version_is_promoted(app: Serving) -> None:
    """It is loaded for the rollout, gets its share, then all, and back goes all at once; a controller that is killed on
    the way goes on where it was, and no request fails."""
    with connect(app.name) as connection, steadily({"REST": ask_rest(app, LABELLED)}, pause_s=0.02) as load:
        rollouts = connection.rollouts
        rollout = rollouts.start(MODEL, 2, target="stable", strategy="stepwise")
        with pytest.raises(FailedPrecondition, match=f"rollout {rollout.id} of {MODEL}, stable"):
            rollouts.start(MODEL, 2, target="stable", strategy="stepwise")
        assert rollouts.wait(rollout.id, Phase.PAUSED, timeout=PATIENCE_S).weight == 50
        load.wait_for_answer_of(2)
        kill(app.controller_pid())
        found = wait_for("the next controller", lambda: patiently(rollouts.get, rollout.id))
        assert found is not None
        assert found.phase is Phase.PAUSED
        wait_for("both versions to be adopted", lambda: {1, 2} <= ready_versions(app, MODEL))
        assert rollouts.promote(rollout.id).weight == 80
        assert rollouts.wait(rollout.id, timeout=PATIENCE_S).phase is Phase.PROMOTED
        ask = ask_rest(app, LABELLED)
        wait_for("version 2 to get all", lambda: {ask() for _ in range(20)} == {2})
        assert connection.model(MODEL).labels() == {"stable": 2}
        assert rollouts.undo(rollout.id).phase is Phase.UNDONE
        wait_for("version 1 to get all", lambda: {ask() for _ in range(20)} == {1})
        story = [each.what for each in rollouts.history(rollout.id)]
        assert [each.partition(":")[0] for each in story if each.startswith("step")] == ["step 1", "step 2", "step 3"]
        # Of the history of versions a crash may cost the last second, of a rollout's own nothing.
        assert any(story[-1] in each.what for each in connection.history(MODEL, 2))
    load.assert_nothing_failed()


def test_a_bad_version_is_turned_away_by_its_own_evidence(app: Serving, held: Path, zoo: Zoo) -> None:
    """A new version that answers otherwise gets copies by itself, and never a request; the latest is not served then.
    """
    with connect(app.name) as connection, steadily({"REST": ask_rest(app, "wary")}, pause_s=0.02) as load:
        traffic = wait_for("the first version to be held", lambda: app.view().models["wary"].traffic)
        assert dict(traffic[""].weights) == {1: 100}
        add_version(zoo.path(MODEL, 2), held, 2)
        [rollout] = wait_for("its rollout to begin", lambda: connection.rollouts.list("wary"))
        ended = connection.rollouts.wait(rollout.id, timeout=PATIENCE_S)
        assert (ended.phase, ended.is_automatic) == (Phase.FAILED, True), ended
        assert ended.transitions[-1].verdicts[0].gate == "disagreement"
        assert ask_rest(app, "wary")() == 1
    load.assert_nothing_failed()
    assert load.answers["REST"].keys() == {1}


def test_what_python_callers_ask_is_evidence(app: Serving) -> None:
    """A label that nobody but a Python caller uses: a version that answers copies of its requests otherwise is turned
    away, and so is one that fails its requests; the app's metrics tell of each of them."""
    outcomes: Counter[int | Code] = Counter()
    with connect(app.name) as connection:
        model, rollouts = connection.model("jobs", label="stable"), connection.rollouts

        def ask() -> int | Code:
            try:
                outcome: int | Code = version_of(model.predict(x=QUESTION, timeout=PATIENCE_S)["y"])
            except ServingError as error:
                outcome = error.code
            outcomes[outcome] += 1
            return outcome

        def try_out(version: int, strategy: str) -> Rollout:
            number = rollouts.start("jobs", version, target="stable", strategy=strategy).id

            def look() -> Rollout | None:
                ask()
                found = rollouts.get(number)
                return None if found.is_active else found

            return wait_for("the rollout to be decided", look)

        for version, strategy, gate in ((2, "wary", "disagreement"), (3, "stepwise", "error_rate")):
            ended = try_out(version, strategy)
            assert (ended.phase, ended.transitions[-1].verdicts[0].gate) == (Phase.FAILED, gate), ended
        wait_for("version 1 to get all", lambda: {ask() for _ in range(20)} == {1})
        assert outcomes.keys() == {1, Code.INVALID_ARGUMENT}

        def counted() -> dict[Labels, Value]:
            counts: Snapshot = app.ask("collect_metrics")
            return counts[CALLER_REQUESTS.name]

        expected = {
            ("jobs", "OK", "1", "serving_default", "label"): outcomes[1],
            ("jobs", "INVALID_ARGUMENT", "3", "serving_default", "label"): outcomes[Code.INVALID_ARGUMENT],
        }
        wait_for("all to be counted", lambda: expected.items() <= counted().items())


def test_one_is_started_and_aborted_by_http(app: Serving) -> None:
    """At the gateway's port and at Serve's door alike, with a token, and not without."""
    path = "/control/v1/rollouts"
    wanted = {"model": MODEL, "to": 2, "target": "stable", "strategy": "stepwise"}
    json = {"Content-Type": "application/json"}
    token = {"Authorization": f"Bearer {TOKEN}"}
    with closing(Rest(app.rest_port)) as rest, closing(Rest(app.door_port, app.prefix)) as door:
        assert rest.request("POST", path, wanted, json)[0] == 401
        status, started = door.request("POST", path, wanted, {**json, **token})
        assert status == 200, started
        status, seen = rest.request("GET", f"{path}/{started['id']}")
        assert (status, seen["from"], seen["to"]) == (200, 1, 2), seen
        status, aborted = rest.request("POST", f"{path}/{started['id']}/abort", None, token)
        assert (status, aborted["phase"]) == (200, "aborted"), aborted
        status, found = door.request("GET", f"/control/v1/models/{MODEL}/labels")
        assert (status, found["labels"]) == (200, [{"label": "stable", "version": 1, "active": True}])
