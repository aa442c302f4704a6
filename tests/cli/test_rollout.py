"""`serving-app rollout`, and rollouts from Python: what they ask the controller for, and how they show the answer."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from ray.exceptions import RayActorError

from serving_app.cli import main
from serving_app.cli.rollout import page
from serving_app.client.control import Control
from serving_app.client.rollouts import Rollouts
from serving_app.core.errors import DeadlineExceeded, InvalidArgument
from serving_app.core.gates import Outcome, Verdict
from serving_app.core.rollout import Check, Phase, Rollout, Transition
from serving_app.core.strategy import Bound, Gate, Measure, Pause, SetWeight, Strategy
from tests.cli.views import NOW, Controller, app, serve
from tests.stepping import Actor

STRATEGY = Strategy(
    "half", (SetWeight(50.0), Pause(60.0)), (Gate("errors", Measure.ERROR_RATE, Bound.MAX, 0.02),), failure_limit=1
)
PASSED = Verdict("errors", Outcome.PASS, 0.01, 0.02, 300)
RUNNING = Rollout(
    1, "m", "stable", 1, 2, STRATEGY, begun=NOW - 60, since=NOW - 60, changed=NOW - 60, phase=Phase.RUNNING, step=1,
    weight=50.0, checks={"errors": Check(1, PASSED)},
    transitions=(
        Transition(NOW - 60, "version 2 is ready", Phase.RUNNING, 0.0),
        Transition(NOW - 60, "step 1: weight 50 %", Phase.RUNNING, 50.0, (PASSED,)),
    ),
)  # fmt: skip
FAILED = replace(RUNNING, id=2, phase=Phase.FAILED, weight=0.0, step=0, reason="errors fail", checks={})


@pytest.fixture
def controller(monkeypatch: pytest.MonkeyPatch) -> Iterator[Controller]:
    """One that has a rollout that goes on and one that failed; asked in Greenwich."""
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    controller = serve(monkeypatch, app())
    controller.rolling = [RUNNING, FAILED]
    yield controller
    monkeypatch.undo()
    time.tzset()


Said = Callable[..., str]


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str], controller: Controller) -> Said:
    """What a command prints; it may not complain."""

    def run(*arguments: str, code: int = 0) -> str:
        assert main(["rollout", *arguments]) == code
        captured = capsys.readouterr()
        assert captured.err == ""
        return captured.out

    return run


PAGE = """\
rollout 1 of m, stable: version 1 to 2, running at 50 %

STEP  WHAT           STATE
1     weight 50 %    done
2     pause of 60 s  now

GATE    FAILURES        LAST
errors  1 of 1 allowed  errors pass: 0.01 where the limit is 0.02, of 300

AT        AGO        WHAT
22:12:20  1 min ago  version 2 is ready
22:12:20  1 min ago  step 1: weight 50 %
"""


def test_one_is_shown(said: Said, controller: Controller) -> None:
    """Where it stands, its steps and gates, and all that it did; one that went back is told by the exit code, too."""
    assert said("status", "1") == PAGE
    assert "failed at 0 % (errors fail)" in said("status", "2", code=3)
    for phase, code in ((Phase.PROMOTED, 0), (Phase.ABORTED, 3), (Phase.UNDONE, 3), (Phase.PAUSED, 0)):
        controller.rolling = [replace(FAILED, phase=phase)]
        said("status", "1", code=code)
    controller.rolling = [RUNNING, FAILED]
    document = json.loads(said("status", "1", "--json"))
    assert (document["id"], document["from"], document["to"], document["phase"]) == (1, 1, 2, "running")
    verdict = {"gate": "errors", "outcome": "pass", "value": 0.01, "limit": 0.02, "samples": 300, "why": ""}
    assert document["gates"] == [{"gate": "errors", "failures": 1, "last": verdict}]
    assert document["history"][1]["evidence"] == [verdict]


def test_all_are_listed(said: Said, controller: Controller) -> None:
    """A line for each, of one model or of all."""
    assert said("list") == (
        "ID  MODEL  TARGET  VERSIONS  STRATEGY  PHASE    WEIGHT  WHY\n"
        "1   m      stable  1 to 2    half      running  50 %\n"
        "2   m      stable  1 to 2    half      failed   0 %     errors fail\n"
    )
    assert [each["id"] for each in json.loads(said("list", "m", "--json"))] == [1, 2]
    assert said("list", "n") == "there are no rollouts\n"


def test_one_is_started(said: Said, controller: Controller, capsys: pytest.CaptureFixture[str]) -> None:
    """By a strategy's name, or by settings in YAML; what is neither is refused at once."""
    line = "rollout 1 of m, stable: version 1 to 2, running at 50 %\n"
    assert said("start", "m", "--to", "2", "--strategy", "half") == line
    said("start", "m", "--to", "2", "--strategy", "{steps: [10, 50]}", "--target", "stable")
    assert controller.labels == [("m", 2, "default", "half"), ("m", 2, "stable", {"steps": [10, 50]})]
    with pytest.raises(SystemExit):
        main(["rollout", "start", "m", "--to", "2", "--strategy", "{steps: [10"])
    assert "neither a name nor a mapping" in capsys.readouterr().err


def test_orders_are_given(said: Said, controller: Controller) -> None:
    """Each action is one order, and the answer is how the rollout stands then."""
    for action in ("promote", "pause", "resume", "abort", "retry", "undo"):
        assert said(action, "1").startswith("rollout 1 of m, stable")
    said("promote", "1", "--full")
    actions = ["promote", "pause", "resume", "abort", "retry", "undo", "promote_full"]
    assert controller.labels == [(1, action) for action in actions]


def test_one_is_watched_to_its_end(said: Said, controller: Controller) -> None:
    """Into a pipe go the page, then what the rollout does, line by line, and what became of it in the end."""
    controller.changes = 4
    told = Transition(NOW, "failed: errors fail; version 1 gets all requests", Phase.FAILED, 0.0)
    measured = replace(RUNNING, checks={"errors": Check(1, replace(PASSED, samples=301))})
    ended = replace(FAILED, id=1, transitions=(*RUNNING.transitions, told))
    seen = iter([RUNNING, RUNNING, measured, ended])

    async def rollout(number: int) -> Rollout:
        await asyncio.sleep(0)
        return next(seen)

    controller.rollout = rollout  # type: ignore[method-assign]
    assert said("status", "1", "--watch", code=3) == (
        f"{PAGE}22:13:20  failed: errors fail; version 1 gets all requests\n"
        "rollout 1 of m, stable: version 1 to 2, failed at 0 % (errors fail)\n"
    )


def test_watching_is_interrupted(controller: Controller, capsys: pytest.CaptureFixture[str]) -> None:
    """By Ctrl-C, with the exit code of that: whoever looks on is not told that the new version has the requests."""
    assert main(["rollout", "status", "1", "--watch"]) == 130
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == (PAGE, "serving-app: interrupted\n")


def test_a_page_fits_its_terminal() -> None:
    """Of a long story the end is shown, and long lines are wrapped below their column."""
    long = replace(RUNNING, transitions=tuple(Transition(NOW, f"told {at}", Phase.RUNNING, 1.0) for at in range(99)))
    lines = page(long, NOW, lines=24).splitlines()
    assert len(lines) <= 24
    assert [line.split()[-1] for line in lines[-2:]] == ["97", "98"]
    assert len(page(long, NOW).splitlines()) > 99
    assert page(long, NOW, lines=1).endswith("told 98")


# --- from Python ------------------------------------------------------------------------------------------------------


def rollouts(controller: Any) -> Rollouts:
    """A client of this controller."""

    async def find(_app: str) -> Any:
        await asyncio.sleep(0)
        return Actor(controller)

    return Rollouts(Control("default", find=find), asyncio.run)


def test_python_gives_the_same_orders(controller: Controller) -> None:
    """Each method is one question or order, and answers with the rollout."""
    client = rollouts(controller)
    assert client.start("m", np.int64(2), strategy="half") == RUNNING  # type: ignore[arg-type]
    assert type(controller.labels[0][1]) is int  # which can be kept
    with pytest.raises(InvalidArgument, match="'2' is no version; give its number, such as 4"):
        client.start("m", "2", strategy="half")  # type: ignore[arg-type]
    assert (client.get(2), client.list(), client.list("n")) == (FAILED, (RUNNING, FAILED), ())
    assert client.history(1) == RUNNING.transitions
    actions = ("promote", "promote_full", "pause", "resume", "abort", "retry", "undo")
    for action in actions:
        assert getattr(client, action)(RUNNING if action == "pause" else 1) == RUNNING
    client.report_value(1, "clicks", 0.5)
    orders = [(1, action) for action in actions]
    assert controller.labels == [("m", 2, "default", "half"), *orders, (1, "clicks", 0.5, None)]


def test_an_order_of_which_no_answer_came_is_given_again(
    controller: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the same mark, by which the next controller knows that it was carried out; another order has another."""
    monkeypatch.setattr("serving_app.client.control.RETRY_S", 0.0)
    marks: list[str] = []

    async def move_rollout(number: int, action: str, order: str) -> Rollout:
        await asyncio.sleep(0)
        marks.append(order)
        if len(marks) == 1:
            raise RayActorError
        return RUNNING

    controller.move_rollout = move_rollout  # type: ignore[method-assign]
    client = rollouts(controller)
    assert client.promote(1) is RUNNING
    assert client.promote(1) is RUNNING
    assert marks[0] == marks[1] != marks[2]


def test_python_waits_and_tells_metrics(controller: Controller) -> None:
    """Until the phase is there, or the rollout is decided otherwise, the metrics of both versions are told."""
    client = rollouts(controller)
    assert client.wait(2) is FAILED
    assert client.wait(RUNNING, "running", Phase.PAUSED) is RUNNING
    with pytest.raises(InvalidArgument, match="'promotd' is no phase of a rollout; those are: waiting, running"):
        client.wait(1, "promotd")
    with pytest.raises(DeadlineExceeded, match="after 0 s, rollout 1 of m, stable"):
        client.wait(1, timeout=0)
    seen = iter([RUNNING, RUNNING, FAILED])

    async def rollout(number: int) -> Rollout:
        await asyncio.sleep(0)
        return next(seen)

    controller.rollout, controller.changes = rollout, 9  # type: ignore[method-assign]
    metrics = {"clicks": lambda version: version / 2, "broken": lambda version: version / 0, "none": lambda _: math.nan}
    assert client.wait(1, Phase.PROMOTED, metrics=metrics) is FAILED
    said = "its function raised ZeroDivisionError('division by zero') for version"
    assert controller.labels == [
        (1, "clicks", 1.0, 2), (1, "clicks", 0.5, 1), (1, "broken", f"{said} 2", 2), (1, "broken", f"{said} 1", 1),
        (1, "none", "its function said nan for version 2", 2), (1, "none", "its function said nan for version 1", 1),
    ]  # fmt: skip


def test_python_watches(controller: Controller) -> None:
    """The rollout comes whenever it has changed, and last of all decided; it is shown in one line."""
    seen = iter([RUNNING, RUNNING, FAILED])

    async def rollout(number: int) -> Rollout:
        await asyncio.sleep(0)
        return next(seen)

    controller.rollout, controller.changes = rollout, 9  # type: ignore[method-assign]
    client = rollouts(controller)
    assert list(client.watch(RUNNING)) == [RUNNING, FAILED]
    assert repr(client) == "Rollouts('default')"
    assert repr(RUNNING) == "<rollout 1 of m, stable: version 1 to 2, running at 50 %>"
