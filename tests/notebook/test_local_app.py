"""Apps of a notebook's own: what they are told to serve, and what is said when they cannot."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from serving_app.config import ConfigError
from serving_app.core.errors import Code, FailedPrecondition
from serving_app.core.servable import ServableId
from serving_app.core.states import State
from serving_app.core.views import AppView, Failure, ModelView, VersionView
from serving_app.notebook import local_app, start_app
from serving_app.notebook.local_app import _is_whole, _read, _refuse_silent


@pytest.mark.parametrize(
    "model",
    [
        "/models/m",
        Path("/models/m"),
        {"base_path": "/models/m"},
        {"base_path": Path("/models/m")},
    ],
)
def test_models_are_those_of_a_configuration(model: Any) -> None:
    """A base path may be a text or a path, alone or among settings."""
    [read] = _read({"m": model}, {}).models
    assert (read.name, read.base_path) == ("m", "/models/m")


def test_paths_are_those_of_this_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A relative path means the folder of the notebook, wherever the gateway runs."""
    monkeypatch.chdir(tmp_path)
    assert _read({"m": Path("models/m")}, {}).models[0].base_path == f"{tmp_path}/models/m"


def test_ports_are_free_ones_unless_they_are_named() -> None:
    """Two apps do not meet, and who wants certain ports gets them."""
    one, other = (_read({"m": "/m"}, {}).gateway for _ in range(2))
    assert len({one.rest_port, one.grpc_port, other.rest_port, other.grpc_port}) == 4
    named = _read({"m": "/m"}, {"gateway": {"rest_port": 8501}, "poll_interval_s": 0.5})
    assert (named.gateway.rest_port, named.poll_interval_s) == (8501, 0.5)
    assert named.gateway.grpc_port not in (0, 8500, 8501)


def test_a_port_is_given_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chance may have the same port twice; then another one is taken, though nobody listens at the first one yet."""
    port = _read({"m": "/m"}, {}).gateway.rest_port
    chosen = iter([port, port, *local_app._PORTS])
    monkeypatch.setattr("random.choice", lambda _: next(chosen))
    gateway = _read({"m": "/m"}, {}).gateway
    assert len({port, gateway.rest_port, gateway.grpc_port}) == 3


def test_what_makes_no_sense_is_refused_before_anything_starts() -> None:
    """A setting that there is not is named, and no Ray was asked for."""
    program = (
        "import sys\n"
        "from serving_app.notebook import start_app\n"
        "try:\n"
        "    start_app({'m': '/m'}, polls=1)\n"
        "except Exception as error:\n"
        "    print(type(error).__name__, 'ray' in sys.modules, error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.startswith("ConfigError False"), done.stderr
    assert "polls" in done.stdout
    with pytest.raises(ConfigError):
        start_app({"m": 1})


def version(number: int, state: State, error: Failure | None = None) -> VersionView:
    return VersionView(ServableId("m", number), state, 0.0, True, f"/m/{number}", None, 1 if error else 0, error, None)


def model(aspired: set[int] | None, *versions: VersionView, listing_failure: Failure | None = None) -> ModelView:
    return ModelView("m", True, None if aspired is None else frozenset(aspired), listing_failure, versions)


BROKEN = Failure(Code.DATA_LOSS, "it is torn")


@pytest.mark.parametrize(
    ("seen", "is_whole"),
    [
        (model({1}, version(1, State.READY)), True),
        (model({1, 2}, version(1, State.READY)), False),
        (model({1, 2}, version(2, State.LOADING), version(1, State.READY)), False),
        (model({1, 2}, version(2, State.FAILED, BROKEN), version(1, State.READY)), True),
        (model(None), True),
        (model(set()), True),
    ],
)
def test_an_app_is_there_with_all_versions_that_it_is_to_serve(seen: ModelView, is_whole: bool) -> None:
    """Those that failed are not waited for, and those that load are, though another one answers already."""
    assert _is_whole(seen) == is_whole


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (model({1}, version(1, State.FAILED, BROKEN)), "m does not answer: version 1: DATA_LOSS: it is torn"),
        (model(None, listing_failure=Failure(Code.NOT_FOUND, "no /m")), "m does not answer: NOT_FOUND: no /m"),
        (model(set()), "m does not answer: no version to serve; versions are directories named by a number"),
    ],
)
def test_a_model_that_does_not_answer_is_an_error(seen: ModelView, words: str) -> None:
    """It says what keeps the model from it."""
    with pytest.raises(FailedPrecondition, match=words):
        _refuse_silent(AppView("notebook", 1, {}, {}, {"m": seen}))
    _refuse_silent(AppView("notebook", 1, {}, {}, {"m": model({1}, version(1, State.READY))}))
