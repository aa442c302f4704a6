"""When a reload is done."""

from __future__ import annotations

from dataclasses import replace

import pytest

from serving_app.core.errors import Code
from serving_app.core.servable import ServableId
from serving_app.core.states import State
from serving_app.core.views import Failure, ModelView, VersionView
from serving_app.serve.reloads import find_first_outcome, find_outcome

FAILURE = Failure(Code.NOT_FOUND, "no model here")


def model(name: str, *states: State, listed: bool = True) -> ModelView:
    """A model whose versions are in these states, the highest first."""
    versions = tuple(
        VersionView(
            ServableId(name, len(states) - index), state, 0.0, listed, None, None, 0,
            FAILURE if state in (State.FAILED, State.CLEARING, State.UNFIT) else None, None,
        )
        for index, state in enumerate(states)
    )
    aspired = frozenset(version.servable.version for version in versions) if listed else None
    return ModelView(name, True, aspired, None, versions)


@pytest.mark.parametrize(
    ("states", "outcome"),
    [
        ((), None),
        ((State.NEW,), None),
        ((State.LOADING,), None),
        ((State.READY,), ""),
        ((State.LOADING, State.READY), ""),
        ((State.FAILED, State.READY), "failed"),
        ((State.CLEARING, State.LOADING), "failed"),
        ((State.READY, State.FAILED), ""),
        ((State.UNFIT,), "failed"),
        ((State.ENDED,), None),
        ((State.ENDED, State.LOADING), None),
    ],
)
def test_the_highest_version_that_is_decided_counts(states: tuple[State, ...], outcome: str | None) -> None:
    """Versions on their way are waited for; what ended before the model came back says nothing."""
    found = find_outcome(["m"], {"m": model("m", *states)})
    assert (found if not found else "failed") == outcome


def test_a_model_that_was_not_listed_yet_is_waited_for() -> None:
    """What is left of an earlier life of a model is not taken for its outcome."""
    assert find_outcome(["m"], {"m": model("m", State.FAILED, listed=False)}) is None


def test_a_model_that_is_taken_out_again_is_not_waited_for() -> None:
    """Nobody would ever hear of it any more."""
    outcome = (
        "1 model(s) did not become available: {{{name: m} due to error: a later change took it out of the "
        "configuration}, }"
    )
    assert find_outcome(["m"], {}) == outcome
    assert find_outcome(["m"], {"m": replace(model("m", State.READY), configured=False)}) == outcome


def test_failures_are_told_in_tensorflow_servings_words() -> None:
    """Every model must be decided; then all that failed are named."""
    views = {"b": model("b", State.FAILED), "a": model("a", State.READY), "c": model("c", State.FAILED, State.READY)}
    assert find_outcome(["b", "a", "c"], views) == (
        "2 model(s) did not become available: {{{name: b version: 1} due to error: NOT_FOUND: no model here}, "
        "{{name: c version: 2} due to error: NOT_FOUND: no model here}, }"
    )
    assert find_outcome(["a"], views) == ""
    assert find_outcome([], views) == ""


@pytest.mark.parametrize(
    ("states", "failures", "outcome"),
    [
        ((), 0, None),
        ((State.LOADING,), 0, None),
        ((State.FAILED,), 2, None),
        ((State.LOADING,), 3, None),
        ((State.CLEARING,), 3, "failed"),
        ((State.FAILED,), 3, "failed"),
        ((State.UNFIT,), 0, "failed"),
        ((State.READY,), 0, ""),
        ((State.FAILED, State.READY), 2, ""),
        ((State.FAILED, State.READY), 3, "failed"),
    ],
)
def test_first_loads_have_their_retries(states: tuple[State, ...], failures: int, outcome: str | None) -> None:
    """At the start a version has failed when its retries are over, here two, or when no node could hold it."""
    view = model("m", *states)
    tried = replace(view, versions=tuple(replace(version, failures=failures) for version in view.versions))
    found = find_first_outcome({"m": tried}, quick_retries=2)
    assert (found if not found else "failed") == outcome


def test_what_a_server_says_of_its_first_loads() -> None:
    """The failures of all models are told in one line, in the form that TensorFlow Serving's servers end with."""
    views = {name: model(name, state) for name, state in (("b", State.UNFIT), ("a", State.READY), ("c", State.UNFIT))}
    views["gone"] = replace(model("gone", State.LOADING), configured=False)
    assert find_first_outcome(views, 0) == (
        "2 servable(s) did not become available: {{{name: b version: 1} due to error: NOT_FOUND: no model here}, "
        "{{name: c version: 1} due to error: NOT_FOUND: no model here}, }"
    )
    assert find_first_outcome({}, 0) == ""
