"""Versions that come and go under load, and versions that are broken."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from serving_app import connect
from serving_app.core.errors import Code
from serving_app.core.states import PublicState
from tests.cluster.asking import ask_everywhere, ask_rest, open_rest, steadily
from tests.cluster.serving import Serving, add_version
from tests.cluster.waiting import wait_for
from tests.zoo import Zoo

pytestmark = pytest.mark.cluster


def test_new_version_takes_over(app: Serving, base: Path, zoo: Zoo) -> None:
    """No request fails when a version takes over, nor when it goes again; a request for a number or a label goes on
    getting that version meanwhile; what is not wanted any more ends."""
    pinned = {"base_path": str(base), "version_policy": "all", "labels": {"stable": 1}}
    app.deploy({"half_plus_two": {"base_path": str(base)}, "pinned": pinned})
    for model in ("half_plus_two", "pinned"):
        app.wait_for_version(model, 1)
    pins = {pin: ask_rest(app, f"pinned/{pin}") for pin in ("versions/1", "labels/stable")}
    with steadily(ask_everywhere(app)) as load, steadily(pins) as pinned_load:
        add_version(zoo.path("half_plus_two", 2), base, 2)
        load.wait_for_answer_of(2)
        app.wait_for_version("half_plus_two", 1, PublicState.END)
        latest = ask_rest(app, "pinned")
        wait_for("version 2 to be the latest", lambda: latest() == 2)
        load.wait_for_more()
        pinned_load.wait_for_more()
        shutil.rmtree(base / "2")
        for model in ("half_plus_two", "pinned"):
            app.wait_for_version(model, 2, PublicState.END)
    load.assert_nothing_failed()
    pinned_load.assert_nothing_failed()
    assert all(set(counter) == {1} for counter in pinned_load.answers.values())
    assert app.apps() == {app.name, f"{app.name}:half_plus_two@1", f"{app.name}:pinned@1"}


BROKEN = {
    "not_a_model": ("empty", Code.NOT_FOUND),
    "corrupt": ("corrupt", Code.DATA_LOSS),
    "without_shard": ("missing_shard", Code.NOT_FOUND),
}
"""For each way to be broken, the model of the zoo that is, and the code that its version then shows."""


def test_broken_versions(app: Serving, tmp_path: Path, zoo: Zoo) -> None:
    """A version that is broken says why and disturbs nobody: its predecessor serves on, until it is repaired."""
    bases = {name: tmp_path / name for name in BROKEN}
    for base in bases.values():
        add_version(zoo.path("half_plus_two", 1), base, 1)
    models = {name: {"base_path": str(base), "settle_s": 0.1, "give_up_s": 1.0} for name, base in bases.items()}
    app.deploy(models, load={"retry_base_s": 0.5, "retry_max_s": 1.0})
    for name in bases:
        app.wait_for_version(name, 1)
    asks = {name: ask_rest(app, name) for name in bases}
    with steadily(asks, pause_s=0.05) as load:
        for name, (broken, _) in BROKEN.items():
            add_version(zoo.path(broken), bases[name], 2)
        for name, (_, code) in BROKEN.items():
            status = app.wait_for_version(name, 2, PublicState.END)
            assert status.code is code
            assert "saved_model.pb" in status.message or "variables.data" in status.message
        load.wait_for_more()
        assert all(set(counter) == {1} for counter in load.answers.values())
        for base in bases.values():
            shutil.copytree(zoo.path("half_plus_two", 2), base / "2", dirs_exist_ok=True)
        load.wait_for_answer_of(2)
    load.assert_nothing_failed()


def test_base_paths_without_versions(app: Serving, tmp_path: Path, zoo: Zoo) -> None:
    """A base path that is missing, empty or in another process's memory is that model's problem alone, and is told."""
    (tmp_path / "vacant").mkdir()
    good = tmp_path / "good"
    add_version(zoo.path("half_plus_two", 1), good, 1)
    app.deploy({
        "good": good.as_uri(),
        "missing": str(tmp_path / "missing"),
        "vacant": str(tmp_path / "vacant"),
        "elsewhere": "memory://models/half_plus_two",
    })
    app.wait_for_version("good", 1)
    assert ask_rest(app, "good")() == 1
    rest = open_rest(app)
    for name in ("missing", "vacant", "elsewhere"):
        assert rest.request("POST", f"/v1/models/{name}:predict", {"instances": [1.0]}) == (
            404, {"error": f"Servable not found for request: Latest({name})"}
        )
        assert rest.request("GET", f"/v1/models/{name}") == (
            404, {"error": f"Could not find any versions of model {name}"}
        )
    assert rest.request("GET", "/healthz/ready") == (
        503, {"ready": False, "waiting_for": ["missing", "vacant", "elsewhere"]}
    )

    def listing_failures() -> list[Code]:
        models = app.view().models
        return [failure.code for name in ("missing", "elsewhere") if (failure := models[name].listing_failure)]

    wait_for("both listings to fail", lambda: len(listing_failures()) == 2)
    assert listing_failures() == [Code.NOT_FOUND] * 2
    add_version(zoo.path("half_plus_two", 2), tmp_path / "missing", 1)
    add_version(zoo.path("half_plus_two", 2), tmp_path / "vacant", 1)
    for name in ("missing", "vacant"):
        app.wait_for_version(name, 1)
        assert ask_rest(app, name)() == 2


def test_shared_traffic(app: Serving, base: Path, zoo: Zoo) -> None:
    """A version that traffic names is served beside the policy's; weights, keys and audiences change while requests go
    on, none of which fails, and gateways and callers by handle decide alike."""
    add_version(zoo.path("half_plus_two", 2), base, 2)
    app.deploy({"half_plus_two": {"base_path": str(base), "traffic": {"default": {"weights": {1: 100}}}}})
    for version in (1, 2):
        app.wait_for_version("half_plus_two", version)
    model = app.clients.enter_context(connect(app.name)).model("half_plus_two")

    def answers(**attributes: str) -> set[int]:
        asks = ask_everywhere(app, {name.replace("_", "-"): value for name, value in attributes.items()})
        return {ask() for ask in asks.values()}

    with steadily(ask_everywhere(app)) as load:
        load.wait_for_more()
        assert all(set(counter) == {1} for counter in load.answers.values())
        rule = {"attribute": "x-team", "equals": "a", "version": 2}
        model.set_traffic({1: 50, 2: 50}, sticky="x-user", audience=[rule])
        assert model.traffic()["default"].weights == {1: 50.0, 2: 50.0}
        wait_for("the audience to get its version", lambda: answers(x_team="a") == {2})
        sides = [answers(x_user=str(user)) for user in range(8)]
        assert sorted({tuple(side) for side in sides}) == [(1,), (2,)]
        model.set_traffic({1: 0, 2: 100})
        wait_for("version 2 to get all", lambda: answers() == {2})
        model.delete_traffic()
        app.wait_for_version("half_plus_two", 1, PublicState.END)
        load.wait_for_more()
    load.assert_nothing_failed()
