"""The table of moves."""

import pickle
from itertools import product

import pytest

from serving_app.core.states import MOVES, REPORTS, Cause, IllegalMove, PublicState, State, public_state


@pytest.mark.parametrize(("state", "report"), list(product(State, REPORTS)))
def test_reports_are_always_legal(state, report):
    """Whatever the world reports, and whenever, has a meaning."""
    assert (state, report) in MOVES


def test_decisions():
    """These are all the decisions there are, and each has one place where it may be taken, or two."""
    decisions = {move: after for move, after in MOVES.items() if move[1] not in REPORTS}
    assert decisions == {
        (State.NEW, Cause.LOAD): State.LOADING,
        (State.FAILED, Cause.LOAD): State.LOADING,
        (State.NEW, Cause.REJECT): State.UNFIT,
        (State.FAILED, Cause.REJECT): State.UNFIT,
        (State.UNFIT, Cause.ADMIT): State.NEW,
        (State.LOADING, Cause.UNLOAD): State.UNLOADING,
        (State.READY, Cause.DRAIN): State.DRAINING,
        (State.DRAINING, Cause.KEEP): State.READY,
        (State.DRAINING, Cause.UNLOAD): State.UNLOADING,
        (State.FAILED, Cause.END): State.ENDED,
        (State.UNFIT, Cause.END): State.ENDED,
        (State.ENDED, Cause.ASPIRE): State.NEW,
    }


def test_ways_to_be_ready():
    """A version becomes ready only by a report that it is, or from draining, where it never ceased to be."""
    ways = {move for move, after in MOVES.items() if after is State.READY and move[0] is not State.READY}
    assert ways == {
        (State.LOADING, Cause.LOADED),
        (State.DRAINING, Cause.KEEP),
        *((state, Cause.FOUND_SERVING) for state in (State.NEW, State.LOADING, State.FAILED, State.UNFIT, State.ENDED)),
    }


def test_removal_ends_only_when_everything_is_gone():
    """Once a removal is ordered, nothing but its completion moves the version on."""
    for state, end in ((State.UNLOADING, State.ENDED), (State.CLEARING, State.FAILED)):
        moves = {cause: after for (before, cause), after in MOVES.items() if before is state and after is not state}
        assert moves == {Cause.GONE: end}


def test_every_state_can_be_left():
    """No state is a dead end."""
    for state in State:
        assert any(before is state and after is not state for (before, _), after in MOVES.items())


@pytest.mark.parametrize(
    ("state", "public"),
    [
        (State.NEW, PublicState.START),
        (State.LOADING, PublicState.LOADING),
        (State.READY, PublicState.AVAILABLE),
        (State.DRAINING, PublicState.UNLOADING),
        (State.UNLOADING, PublicState.UNLOADING),
        (State.CLEARING, PublicState.END),
        (State.FAILED, PublicState.END),
        (State.UNFIT, PublicState.END),
        (State.ENDED, PublicState.END),
    ],
)
def test_public_states(state, public):
    """Clients see TensorFlow Serving's five states."""
    assert public_state(state) is public


def test_illegal_move():
    """An illegal move says what was tried and what came before, also on the far side of a process border."""
    error = pickle.loads(pickle.dumps(IllegalMove("m@1", State.ENDED, Cause.DRAIN, "1.000 unload ordered")))
    assert (error.subject, error.state, error.cause, error.story) == (
        "m@1",
        State.ENDED,
        Cause.DRAIN,
        "1.000 unload ordered",
    )
    assert str(error) == "m@1 is ended and cannot be 'taken out of the routes'. Its story so far:\n1.000 unload ordered"
