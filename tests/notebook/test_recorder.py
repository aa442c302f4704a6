"""Looking at a model from a thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from serving_app.core.errors import NotFound, Unavailable
from serving_app.core.metrics import Snapshot
from serving_app.core.views import AppView
from serving_app.notebook import Recorder
from tests.cluster.waiting import wait_for
from tests.notebook.test_recording import view
from tests.stepping import PATIENCE_S


class Asked:
    """A connection that says how often it was asked; `trouble` is raised in place of an answer."""

    def __init__(self) -> None:
        self.trouble: Exception | None = None
        self.asked = threading.Semaphore(0)
        self.models = {"digits": view()}

    def status(self) -> AppView:
        return AppView("default", 1, {}, {}, dict(self.models))

    def metrics(self) -> Snapshot:
        self.asked.release()
        if self.trouble is not None:
            raise self.trouble
        return {}

    def wait(self, times: int) -> None:
        """Returns when it was asked so often more."""
        for _ in range(times):
            assert self.asked.acquire(timeout=PATIENCE_S)


@pytest.fixture
def asked() -> Asked:
    return Asked()


@pytest.fixture
def recorder(asked: Any) -> Iterator[Recorder]:
    with Recorder(asked, "digits", every_s=0.001) as recorder:
        yield recorder


def test_it_looks_again_and_again_until_it_is_stopped(recorder: Recorder, asked: Asked) -> None:
    """The recording grows by itself; stopping adds a last look and gives it back, and stopping again does nothing."""
    asked.wait(5)
    looks = len(recorder.stop().looks)
    assert looks > 1
    assert recorder.stop() is recorder.recording
    assert len(recorder.recording.looks) == looks
    assert repr(recorder).endswith(", stopped)")


def test_trouble_is_told_and_passes(recorder: Recorder, asked: Asked) -> None:
    """A controller that does not answer costs looks, and says why; the recorder goes on, also without its model."""
    asked.trouble = Unavailable("it starts again")
    assert "it starts again" in str(wait_for("the trouble to be told", lambda: recorder.problem))
    asked.trouble = None
    asked.models = {}
    wait_for("the trouble to pass", lambda: recorder.problem is None)
    recorder.stop()
    assert recorder.problem is None


def test_a_look_besides_is_no_reason_to_stop(recorder: Recorder, asked: Asked) -> None:
    """What keeps a look from coming about is told as that of any other look; whoever asked for it goes on."""
    asked.trouble = Unavailable("it starts again")
    recorder.look()
    assert "it starts again" in str(recorder.problem)


def test_an_unknown_model_is_refused(asked: Any) -> None:
    """Who misspells a model is told, instead of getting an empty recording."""
    with pytest.raises(NotFound, match="no model 'digit' is served"):
        Recorder(asked, "digit")
