"""Asking and telling a serving app that runs: by Python and by command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from serving_app import connect
from serving_app.cli import main
from serving_app.core.errors import FailedPrecondition, NotFound
from tests.cluster.asking import QUESTION, version_of
from tests.cluster.serving import Serving, kill

pytestmark = pytest.mark.cluster


def test_a_label_set_while_the_controller_is_away(
    app: Serving, base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Right after a kill of the controller a label can be set: that waits for the next one, calls by the label are
    answered as soon as it is set, and the commands tell of it; a refusal arrives as the error that it is."""
    app.deploy({"half_plus_two": str(base)})
    app.wait_for_version("half_plus_two", 1)
    connection = app.clients.enter_context(connect(app.name))
    model = connection.model("half_plus_two")
    kill(app.controller_pid())
    model.set_label("stable", 1)
    assert model.labels() == {"stable": 1}
    assert version_of(connection.model("half_plus_two", label="stable").predict(x=QUESTION)["y"]) == 1
    with pytest.raises(FailedPrecondition, match="version 7 of model half_plus_two, which is not currently available"):
        model.set_label("canary", 7)
    with pytest.raises(NotFound, match="There is no model other"):
        connection.model("other").set_label("stable", 1)

    capsys.readouterr()  # Ray has told of the kill
    assert main(["status", "--json", "--name", app.name]) == 0
    (seen,) = json.loads(capsys.readouterr().out)["models"]
    assert seen["labels"] == [{"label": "stable", "version": 1, "active": True}]
    assert main(["history", "half_plus_two", "--name", app.name]) == 0
    assert "half_plus_two@1: label stable is given to this version" in capsys.readouterr().out
    assert main(["labels", "half_plus_two", "delete", "stable", "--name", app.name]) == 0
    assert model.labels() == {}
