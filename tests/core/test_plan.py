"""What an edit would change, in words."""

from __future__ import annotations

import pickle

import pytest

from serving_app.core.plan import Change, Plan


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (
            Change("m", "add", "", "", "/models/m", "its versions are loaded"),
            "+ model m: /models/m (its versions are loaded)",
        ),
        (Change("m", "remove", "", "/models/m", ""), "- model m: /models/m"),
        (Change("m", "change", "labels.stable", "1", "2"), "~ model m labels.stable: 1 -> 2"),
        (
            Change(None, "change", "poll_interval_s", "1", "2", "from the next poll on"),
            "~ poll_interval_s: 1 -> 2 (from the next poll on)",
        ),
    ],
)
def test_changes_in_words(change: Change, line: str) -> None:
    """Each change is one line: what, of which model, from what to what, and what follows."""
    assert str(change) == line


def test_plans() -> None:
    """A plan has one line per change, or says that there is none, and travels between processes."""
    changes = (Change("m", "remove", "", "", ""), Change(None, "add", "state_uri", "", "/state"))
    plan = pickle.loads(pickle.dumps(Plan(changes)))
    assert str(plan) == "- model m\n+ state_uri: /state"
    assert not plan.is_empty
    assert Plan().is_empty
    assert str(Plan()) == "nothing changes"
