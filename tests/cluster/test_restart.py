"""What users changed at run time outlives the app, where `state_uri` says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from serving_app import connect
from tests.cluster.asking import ask_rest
from tests.cluster.serving import Serving
from tests.zoo import Zoo

pytestmark = pytest.mark.cluster

MODEL = "half_plus_two"


def test_a_corrupt_state_is_kept_aside(app: Serving, tmp_path: Path, zoo: Zoo) -> None:
    """An app whose state is damaged says so, keeps the file, and starts from what was deployed."""
    models = {MODEL: {"base_path": zoo.base(MODEL), "labels": {"deployed": 2}}}
    app.deploy(models, state_uri=str(tmp_path))
    app.wait_for_version(MODEL, 2)
    with connect(app.name) as connection:
        connection.model(MODEL).set_label("stable", 2)
    app.remove()
    [state] = tmp_path.glob("*.json")
    state.write_bytes(state.read_bytes()[:100])
    app.deploy(models, state_uri=str(tmp_path))
    app.wait_for_version(MODEL, 2)
    with connect(app.name) as connection:
        assert connection.model(MODEL).labels() == {"deployed": 2}
        connection.model(MODEL).set_label("stable", 2)
    assert ask_rest(app, f"{MODEL}/labels/stable")() == 2
    [aside] = tmp_path.glob("*.unreadable-*")
    [problem] = app.view().problems
    assert aside.name in problem
