"""Asking a controller: what it answers, what it refuses, and what comes of one that is away."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from ray.exceptions import ActorUnavailableError, RayTaskError

from serving_app.client.connection import read_config
from serving_app.client.control import Control, Unreachable
from serving_app.core.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    ServingError,
)
from serving_app.core.plan import Change, Plan
from tests.stepping import Actor

PLAN = Plan((Change("m", "add", "", "", "/models/m", "its versions are loaded"),))


class Controller:
    """Answers with what it was asked, or raises what it is given."""

    def __init__(self, failures: list[Exception] | None = None) -> None:
        self.failures = failures or []
        self.asked: list[tuple[Any, ...]] = []

    def _answer(self, *asked: Any) -> None:
        self.asked.append(asked)
        if self.failures:
            raise self.failures.pop(0)

    async def apply(self, text: str, source: str, dry_run: bool) -> Plan:
        self._answer("apply", text, source, dry_run)
        return PLAN

    async def config_text(self, form: str, secrets: bool) -> str:
        self._answer("config_text", form, secrets)
        return "models: []\n"

    async def set_label(self, model: str, label: str, version: int) -> None:
        self._answer("set_label", model, label, version)

    async def history(self, model: str | None, version: int | None, limit: int) -> tuple[()]:
        self._answer("history", model, version, limit)
        return ()

    async def wait_for_change(self, seen: int, timeout_s: float) -> int:
        await asyncio.Event().wait()
        raise AssertionError


def control(controller: Controller, timeout_s: float = 30.0) -> Control:
    async def find(_app: str) -> Actor:
        return Actor(controller)

    return Control("trial", timeout_s=timeout_s, find=find)


def test_questions_are_handed_on_as_they_are() -> None:
    """Each method of the control is one of the controller, with the same arguments in its order."""
    controller = Controller()

    async def ask() -> None:
        asking = control(controller)
        assert await asking.apply("models: []", "a.yaml", dry_run=True) == PLAN
        assert await asking.config("tfs", secrets=True) == "models: []\n"
        assert await asking.history("m", 3, limit=7) == ()
        await asking.set_label("m", "stable", 2)

    asyncio.run(ask())
    assert controller.asked == [
        ("apply", "models: []", "a.yaml", True),
        ("config_text", "tfs", True),
        ("history", "m", 3, 7),
        ("set_label", "m", "stable", 2),
    ]


def raised_there(cause: Exception) -> Exception:
    """What Ray raises here when an actor raised this: an error of both kinds, with a stack in its text."""
    text = f"ray::Controller.set_label()\n  File ...\n{cause!r}"
    error: Exception = RayTaskError("set_label", text, cause).as_instanceof_cause()
    return error


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (raised_there(NotFound("There is no model m")), NotFound("There is no model m")),
        (raised_there(KeyError("m")), Internal("KeyError: 'm'")),
    ],
)
def test_refusals_come_as_they_were_raised(raised: Exception, expected: ServingError) -> None:
    """An error of the controller arrives with its type, code and text; one that is no error of ours is internal."""
    with pytest.raises(type(expected)) as caught:
        asyncio.run(control(Controller([raised])).set_label("m", "stable", 2))
    assert type(caught.value) is type(expected)
    assert str(caught.value) == str(expected)


def test_a_controller_that_starts_again_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A question that was lost with the controller is asked again, and the answer is the one of its successor."""
    monkeypatch.setattr("serving_app.client.control.RETRY_S", 0.0)
    controller = Controller([ActorUnavailableError("it starts again", None)] * 3)
    assert asyncio.run(control(controller).apply("", "a.yaml")) == PLAN
    assert len(controller.asked) == 4


def test_a_controller_that_does_not_answer() -> None:
    """Silence ends with a deadline that names the app, and not later than the time given."""
    with pytest.raises(DeadlineExceeded, match=r"'trial' has not answered within 0\.01 s"):
        asyncio.run(control(Controller(), timeout_s=0.01).wait_for_change(0, 0.0))


def test_a_controller_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no actor has the name any more, that is said, whatever happened to the last one."""
    monkeypatch.setattr("serving_app.client.control.RETRY_S", 0.0)
    actor = Actor(Controller([ActorUnavailableError("gone", None)]))
    found = [actor]

    async def find(app: str) -> Any:
        if not found:
            raise Unreachable(f"no serving app named {app!r}")
        return found.pop()

    with pytest.raises(Unreachable, match="no serving app named 'trial'"):
        asyncio.run(Control("trial", find=find).apply("", "a.yaml"))


def test_a_controller_of_another_version() -> None:
    """A controller that lacks a method is told from one that fails, with what to do."""
    with pytest.raises(FailedPrecondition, match=r"does not know 'view'.*another version of serving_app"):
        asyncio.run(control(Controller()).view())


def test_a_controller_that_takes_other_arguments() -> None:
    """Ray refuses arguments that do not fit the class as it is here; that is told in the same way."""

    class Method:
        def remote(self) -> None:
            """Takes nothing."""

    class Older:
        apply = Method()

    async def find(_app: str) -> Any:
        return Older()

    with pytest.raises(FailedPrecondition, match=r"takes 'apply' differently.*another version of serving_app"):
        asyncio.run(Control("trial", find=find).apply("", "a.yaml"))


def test_a_configuration_in_any_shape(tmp_path: Path) -> None:
    """A text is taken as it is, a mapping becomes one, a path stands for the file's content and names it in errors."""
    path = tmp_path / "a.yaml"
    path.write_text("models: []\n")
    assert read_config("models: []") == ("models: []", "The configuration")
    assert read_config({"models": {"ü": "/models/ü"}}) == ('{"models": {"ü": "/models/ü"}}', "The configuration")
    assert read_config(path) == ("models: []\n", str(path))
    with pytest.raises(InvalidArgument, match=r"names a file; hand over pathlib\.Path"):
        read_config(str(path))
    with pytest.raises(InvalidArgument, match="cannot be read"):
        read_config(tmp_path)
