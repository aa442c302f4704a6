"""Asking the version that serves: bounded, and patient within a deadline."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from serving_app.core.errors import DeadlineExceeded, InvalidArgument, NotFound, ResourceExhausted, Unavailable
from serving_app.data.servables import LiveRuns

X = {"x": np.array([1.0, 2.0])}


class Model:
    """Answers what it is told to, one after the other, at a clock that only sleeping moves."""

    def __init__(self, *replies: Any) -> None:
        self._replies = list(replies)
        self.asked: list[dict[str, Any]] = []
        self.now = 0.0
        self.slept: list[float] = []

    def predict(self, inputs: Any, /, **options: Any) -> Any:
        self.asked.append(options)
        reply = self._replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def runs(self, timeout: float = 10.0) -> LiveRuns:
        return LiveRuns(
            self, "serving_default", ("y",), rows_per_run=256, parallel=4, timeout=timeout,
            clock=lambda: self.now, sleep=self.sleep, chance=lambda: 0.5,
        )


def test_a_call_names_its_signature_and_outputs_and_has_all_the_time() -> None:
    """What is asked for is what is wanted, and the first attempt may take as long as all together."""
    model = Model({"y": "answer"})
    assert model.runs().run(X) == {"y": "answer"}
    assert model.asked == [{"signature_name": "serving_default", "outputs": ("y",), "timeout": 10.0}]


def test_a_busy_model_is_asked_again_with_growing_pauses() -> None:
    """RESOURCE_EXHAUSTED and UNAVAILABLE are waited out, twice as long each time; each attempt has what is left."""
    model = Model(ResourceExhausted("full"), Unavailable("gone"), ResourceExhausted("full"), {"y": 1})
    assert model.runs().run(X) == {"y": 1}
    assert model.slept == [0.05, 0.1, 0.2]
    assert [round(each["timeout"], 2) for each in model.asked] == [10.0, 9.95, 9.85, 9.65]


def test_a_model_that_stays_busy_is_given_up_at_the_deadline() -> None:
    """No pause is begun that would outlast the time for a call, and the error says what the model said."""
    model = Model(*[ResourceExhausted("full")] * 100)
    with pytest.raises(DeadlineExceeded, match=r"within 10 s \(RESOURCE_EXHAUSTED: full\); give it more replicas"):
        model.runs().run(X)
    assert model.now < 10.0
    assert max(model.slept) <= 5.0


@pytest.mark.parametrize("error", [InvalidArgument("wrong"), DeadlineExceeded("late")])
def test_other_errors_are_raised_at_once(error: Exception) -> None:
    """What would fail again is not tried again."""
    model = Model(error)
    with pytest.raises(type(error), match=str(error)):
        model.runs().run(X)
    assert model.slept == []


def test_a_version_that_went_says_what_to_do() -> None:
    """The version is pinned, so when it is unloaded in the middle the work ends, and tells the ways out."""
    with pytest.raises(NotFound, match=r"Specific.*let it serve until the work is done, or run the version locally"):
        Model(NotFound("Servable not found for request: Specific(m, 3)")).runs().run(X)
