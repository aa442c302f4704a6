"""Which versions are aspired, and what comes next: literal tables."""

import pytest

from serving_app.core.policies import (
    All,
    AvailabilityPreserving,
    Latest,
    Load,
    ResourcePreserving,
    Specific,
    Unload,
    VersionSnapshot,
    aspired_versions,
    describe_policy,
    next_step,
)
from serving_app.core.states import State


@pytest.mark.parametrize(
    ("policy", "found", "aspired"),
    [
        (Latest(), [], set()),
        (Latest(), [3, 10, 9], {10}),
        (Latest(0), [3, 10, 9], {10}),
        (Latest(2), [3, 10, 9], {9, 10}),
        (Latest(5), [3, 10, 9], {3, 9, 10}),
        (All(), [3, 10, 9], {3, 9, 10}),
        (All(), [], set()),
        (Specific((3, 4)), [3, 10, 9], {3}),
        (Specific(()), [3, 10, 9], set()),
    ],
)
def test_aspired_versions(policy, found, aspired):
    """A version policy picks from what is found, and never more than that."""
    assert aspired_versions(policy, found) == aspired


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        (Latest(), "the latest version"),
        (Latest(0), "the latest version"),
        (Latest(3), "the latest 3 versions"),
        (All(), "all versions"),
        (Specific((3,)), "version 3"),
        (Specific((3, 4)), "versions 3, 4"),
        (Specific(()), "versions (none)"),
    ],
)
def test_policies_in_words(policy, words):
    """A version policy can be read."""
    assert describe_policy(policy) == words


def snapshots(*lines: str) -> list[VersionSnapshot]:
    """From lines such as "+2 ready": + is aspired, - is not."""
    words = [line.split() for line in lines]
    return [VersionSnapshot(int(number[1:]), State(state), number[0] == "+") for number, state in words]


@pytest.mark.parametrize(
    ("versions", "step"),
    [
        ((), None),
        # The first version, and several: the highest goes first.
        (("+1 new",), Load(1)),
        (("+1 new", "+3 new", "+2 new"), Load(3)),
        (("+1 new", "+3 loading", "+2 new"), Load(2)),
        (("+1 ready",), None),
        # A successor: the old version serves until the new one is ready.
        (("-1 ready", "+2 new"), Load(2)),
        (("-1 ready", "+2 loading"), None),
        (("-1 ready", "+2 ready"), Unload(1)),
        (("-1 draining", "+2 ready"), None),
        (("-1 unloading", "+2 ready"), None),
        # A successor that fails: the old version keeps serving.
        (("-1 ready", "+2 clearing"), None),
        (("-1 ready", "+2 failed"), None),
        # All but one of several old versions may go at once, the lowest first.
        (("-1 ready", "-2 ready", "+3 loading"), Unload(1)),
        (("-1 draining", "-2 ready", "+3 loading"), None),
        (("-1 ready", "-2 ready", "+3 new"), Unload(1)),
        (("-1 draining", "-2 ready", "+3 new"), Load(3)),
        # One ready version that is aspired is enough for the old ones to go.
        (("-1 ready", "+2 ready", "+3 new"), Unload(1)),
        (("-1 draining", "+2 ready", "+3 new"), Load(3)),
        # Back to an older version works as forward does.
        (("+1 new", "-2 ready"), Load(1)),
        (("+1 ready", "-2 ready"), Unload(2)),
        # Nothing is aspired any more: everything goes, the lowest first.
        (("-2 ready", "-1 ready"), Unload(1)),
        (("-2 ready", "-1 draining"), Unload(2)),
        (("-2 ended", "-1 failed"), None),
        # A version that fits nowhere is neither waited for nor in the way.
        (("-1 ready", "+2 unfit"), None),
        (("-1 ready", "+2 new", "+3 unfit"), Load(2)),
        (("-1 ready", "+2 ready", "+3 unfit"), Unload(1)),
    ],
)
def test_availability_preserving(versions, step):
    """Load first, unload after: the last ready version stays until an aspired one is ready."""
    assert next_step(AvailabilityPreserving(), snapshots(*versions)) == step


@pytest.mark.parametrize(
    ("versions", "step"),
    [
        ((), None),
        (("+1 new", "+2 new"), Load(2)),
        (("-1 ready", "+2 new"), Unload(1)),
        (("-2 ready", "-1 ready", "+3 new"), Unload(1)),
        (("-1 draining", "+2 new"), None),
        (("-1 unloading", "+2 new"), None),
        (("-1 clearing", "+2 new"), None),
        (("-1 loading", "+2 new"), None),
        (("-1 ended", "+2 new"), Load(2)),
        (("-1 failed", "+2 new"), Load(2)),
        # Aspired again while it goes: it takes memory until it is gone.
        (("+1 unloading", "+2 new"), None),
        (("+1 ready", "+2 new"), Load(2)),
        (("+1 failed", "+2 ready"), None),
        # Nothing goes for versions that would not fit even then, but for others it does.
        (("-1 ready", "+2 unfit"), None),
        (("-1 ready", "-2 ready", "+3 unfit", "+4 unfit"), None),
        (("-1 ready", "+2 new", "+3 unfit"), Unload(1)),
        (("-1 ready", "+2 ready", "+3 unfit"), Unload(1)),
        (("-1 unfit", "+2 new"), Load(2)),
        (("+1 unfit", "+2 new"), Load(2)),
    ],
)
def test_resource_preserving(versions, step):
    """Unload first, load after: nothing loads before everything unwanted is gone."""
    assert next_step(ResourcePreserving(), snapshots(*versions)) == step
