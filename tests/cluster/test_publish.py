"""A training job that publishes for a serving app that runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from serving_app import connect, publish
from serving_app.cli import main
from serving_app.core.errors import FailedPrecondition, NotFound
from tests.cluster.asking import QUESTION, ask_rest, version_of
from tests.cluster.serving import Serving
from tests.zoo import Zoo

pytestmark = pytest.mark.cluster

MODEL = "half_plus_two"


def test_a_job_publishes_and_waits(
    app: Serving, base: Path, zoo: Zoo, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the model's name alone a version gets where it is served from; when the call returns, every door answers by
    it and by its label. One that cannot be loaded is told in the loader's words, and the one before goes on."""
    app.deploy({MODEL: {"base_path": str(base), "version_policy": {"latest": 2}}})
    app.wait_for_version(MODEL, 1)
    done = publish(zoo.path(MODEL, 2), MODEL, labels="canary", warmup=[{"x": QUESTION}], app=app.name)
    assert (done.version, done.path, done.labels, done.is_served) == (2, str(base / "2"), ("canary",), True)
    assert ask_rest(app, MODEL)() == 2
    assert ask_rest(app, f"{MODEL}/labels/canary")() == 2

    with pytest.raises(FailedPrecondition, match=rf"version 3 of {MODEL} cannot be loaded: .*version is at {base}/3"):
        publish(zoo.path("custom_op"), MODEL, wait=True, app=app.name)
    assert ask_rest(app, MODEL)() == 2

    with pytest.raises(NotFound, match=f"has no model other .it has: {MODEL}.; give add=True"):
        publish(zoo.path(MODEL, 1), "other", str(tmp_path / "other"), app=app.name)
    capsys.readouterr()
    command = ["publish", zoo.path(MODEL, 1), "--model", "other", "--base-path", str(tmp_path / "other"), "--add"]
    assert main([*command, "--label", "stable", "--json", "--name", app.name]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["model"], told["version"], told["labels"], told["served"]) == ("other", 1, ["stable"], True)
    with connect(app.name) as connection:
        assert version_of(connection.model("other", label="stable").predict(x=QUESTION)["y"]) == 1
        assert version_of(connection.model(MODEL, label="canary").predict(x=QUESTION)["y"]) == 2
