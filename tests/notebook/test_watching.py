"""Watching a rollout, where there is a notebook and where there is none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from serving_app.core.errors import DeadlineExceeded
from serving_app.core.rollout import Phase, Rollout
from serving_app.notebook import watch
from tests.notebook.scenes import recording, rollout

STORY = [
    rollout(Phase.WAITING), replace(rollout(Phase.RUNNING), weight=10.0), replace(rollout(Phase.RUNNING), weight=10.0),
    replace(rollout(Phase.PROMOTED, (9.0, "promoted")), weight=100.0),
]  # fmt: skip


class Rollouts:
    """Rollouts of which one goes on by a step at each look; waiting is in vain until the end."""

    def __init__(self) -> None:
        self.at = -1
        self.waits: list[tuple[Any, ...]] = []

    def wait(self, number: int, *phases: Phase, timeout: float, metrics: Any) -> Rollout:
        self.waits.append((number, phases, metrics))
        self.at += 1
        if STORY[self.at].is_active:
            raise DeadlineExceeded("not yet")
        return STORY[self.at]

    def get(self, number: int) -> Rollout:
        return STORY[self.at]


class Recorder:
    """A recorder of an app with these rollouts."""

    def __init__(self) -> None:
        self.rollouts = Rollouts()
        self.connection = self
        self.recording = recording()
        self.looks = 0

    def look(self) -> None:
        self.looks += 1


@pytest.fixture
def recorder() -> Any:
    return Recorder()


@pytest.mark.parametrize("asked", [7, rollout()])
def test_without_a_notebook_lines_are_printed(recorder: Any, asked: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Each news is a line, and what is no news is none; the rollout is returned as it is in the end."""
    metrics = {"clicks": lambda version: 1.0}
    assert watch(recorder, asked, Phase.PAUSED, metrics=metrics) is STORY[-1]
    assert capsys.readouterr().out.splitlines() == [str(STORY[0]), str(STORY[1]), str(STORY[3])]
    assert recorder.rollouts.waits == [(7, (Phase.PAUSED,), metrics)] * 4
    assert recorder.looks == 1


def test_a_rollout_that_takes_too_long(recorder: Any) -> None:
    """After the time that was given the error of `wait` is raised, with the last state shown."""
    with pytest.raises(DeadlineExceeded):
        watch(recorder, 7, timeout=0)
    assert recorder.rollouts.at == 0


def test_in_a_notebook_one_picture_is_drawn_again_and_again(recorder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first picture is shown, and the others take its place."""
    shown: list[str] = []

    class Handle:
        def update(self, figure: Any) -> None:
            shown.append(figure.get_suptitle())

    def display(figure: Any, *, display_id: bool) -> Handle:
        shown.append(f"first: {figure.get_suptitle()}")
        return Handle()

    monkeypatch.setattr("IPython.display.display", display)
    monkeypatch.setattr("serving_app.notebook.watching._is_notebook", lambda: True)
    watch(recorder, 7)
    assert shown == [
        "first: digits, stable: version 1 to 2, waiting", *["digits, stable: version 1 to 2, running"] * 2,
        "digits, stable: version 1 to 2, promoted",
    ]  # fmt: skip
