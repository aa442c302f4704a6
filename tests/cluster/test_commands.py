"""Asking and telling a serving app that runs: by Python and by command line."""

from __future__ import annotations

import json
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from serving_app import connect
from serving_app.cli import main
from serving_app.core.errors import FailedPrecondition, NotFound
from tests.cluster.asking import QUESTION, Rest, version_of
from tests.cluster.serving import Serving, kill
from tests.cluster.waiting import wait_for

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


def test_a_profile_tells_of_requests_and_processes(
    app: Serving, base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """While requests come, their stages add up to their latency, and gateway, replica and controller tell what they do
    with their CPU time, the parts of the product among it."""
    app.deploy({"half_plus_two": str(base)})
    app.wait_for_version("half_plus_two", 1)
    ended = threading.Event()

    def ask() -> None:
        with closing(Rest(app.rest_port)) as rest:
            while not ended.is_set():
                rest.predict("half_plus_two", {"instances": QUESTION})

    def profile() -> Any:
        """Of a second in which requests were answered, by all processes; whoever stood still for it is asked again."""
        capsys.readouterr()
        assert main(["profile", "--seconds", "1", "--json", "--name", app.name]) == 0
        told = json.loads(capsys.readouterr().out)
        return told if told["requests"] and len(told["processes"]) == 3 else None

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        told = wait_for("a profile of all processes", profile)
    finally:
        ended.set()
        asking.join()
    (part,) = told["requests"]
    assert list(part["stages"]) == ["decode", "queue", "hop", "batch_wait", "run", "resume", "encode"]
    assert sum(each["mean_s"] for each in part["stages"].values()) == pytest.approx(part["mean_s"])
    assert sum(each["share"] for each in part["stages"].values()) == pytest.approx(1.0)
    roles = {each["name"]: each for each in told["processes"]}
    assert roles.keys() == {"controller", "gateway", f"{app.name}:half_plus_two@1"}
    assert all(each["cpu_s"] > 0 for each in roles.values())
    assert told["silent"] == []
    assert any(each["function"].startswith("serving_app.") for each in told["functions"])
