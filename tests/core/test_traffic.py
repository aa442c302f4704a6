"""How the requests for one target are shared among versions."""

from __future__ import annotations

import pickle
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving_app.core.errors import FailedPrecondition
from serving_app.core.traffic import Mirror, Rule, Traffic, check_traffic, is_copied, no_attributes, pick

READY = {1, 2, 3}
KEYS = [f"user-{number}" for number in range(20_000)]


TWO = (Rule("a", 2, frozenset("x")), Rule("b", 3, frozenset("x")))


def having(**attributes):
    """Attributes; underscores stand for dashes."""
    return {name.replace("_", "-"): value for name, value in attributes.items()}.get


def shares(traffic: Traffic) -> Counter[int | None]:
    return Counter(pick(traffic, READY, having(user=key)) for key in KEYS)


def by_user(**weights: float) -> Traffic:
    return Traffic({int(name[1:]): weight for name, weight in weights.items()}, "user", seed="m")


@pytest.mark.parametrize(
    ("traffic", "attributes", "version"),
    [
        (Traffic({1: 100}), {}, 1),
        (Traffic({1: 0, 2: 100}), {}, 2),
        (Traffic({1: 100}, rules=(Rule("x-team", 2, frozenset({"ads"})),)), {"x_team": "ads"}, 2),
        (Traffic({1: 100}, rules=(Rule("x-team", 2, frozenset({"ads"})),)), {"x_team": "search"}, 1),
        (Traffic({1: 100}, rules=(Rule("x-team", 2, frozenset({"ads"})),)), {}, 1),
        (Traffic({1: 100}, rules=(Rule("agent", 2, pattern="curl/8.*"),)), {"agent": "curl/8.1"}, 2),
        (Traffic({1: 100}, rules=(Rule("agent", 2, pattern="curl"),)), {"agent": "curl/8.1"}, 1),
        (Traffic({1: 100}, rules=TWO), {"b": "x", "a": "x"}, 2),
    ],
)
def test_pick(traffic, attributes, version):
    """The first rule that fits decides, else the weights."""
    assert pick(traffic, READY, having(**attributes)) == version


@pytest.mark.parametrize(
    ("ready", "version"),
    [({1, 2}, 2), ({1}, 1), ({2}, 2), ({3}, None), ((), None)],
)
@pytest.mark.parametrize("sticky", [None, "user"])
def test_versions_that_are_missing(ready, version, sticky):
    """Requests go to those that are there; None is the answer only where none is that may get any."""
    traffic = Traffic({1: 100, 3: 0}, sticky, (Rule("team", 2, frozenset({"ads"})),))
    assert pick(traffic, ready, having(team="ads", user="me")) == version


def test_a_weight_that_is_next_to_nothing():
    """Is a weight: who has it answers where nobody else can."""
    assert pick(Traffic({1: 100, 2: 5e-324}, "user"), {2}, having(user="me")) == 2


def test_a_long_text_fits_no_pattern():
    """And costs nothing; whatever else decides, decides."""
    traffic = Traffic({1: 100}, rules=(Rule("agent", 2, pattern=".*"),))
    assert pick(traffic, READY, having(agent="a" * 2048)) == 2
    assert pick(traffic, READY, having(agent="a" * 2049)) == 1


def test_weights_by_chance():
    """Over many requests each version gets its share."""
    traffic = Traffic({1: 90, 2: 10})
    picked = Counter(pick(traffic, READY, no_attributes) for _ in range(100_000))
    assert picked.keys() == {1, 2}
    assert abs(picked[2] - 10_000) < 600  # six standard deviations


def test_weights_by_key():
    """The same by keys, and requests without a key are shared by chance."""
    assert abs(shares(by_user(v1=90, v2=10))[2] - 2000) < 250
    assert {pick(by_user(v1=50, v2=50), READY, no_attributes) for _ in range(100)} == {1, 2}


def test_a_key_stays_until_a_weight_moves_it():
    """As a weight grows from nothing to all at another's cost, each key changes sides once, in this direction."""
    sides = [
        [pick(by_user(v1=100 - weight, v2=weight), READY, having(user=key)) for key in KEYS[:2000]]
        for weight in (0, 1, 5, 20, 50, 99, 100)
    ]
    assert set(sides[0]) == {1}
    assert set(sides[-1]) == {2}
    for before, after in pairwise(sides):
        assert (2, 1) not in set(zip(before, after, strict=True))


def test_targets_have_users_of_their_own():
    """Who gets the new version of one model does not therefore get that of another one."""
    mine = {key for key in KEYS if pick(Traffic({1: 90, 2: 10}, "user", seed="a"), READY, having(user=key)) == 2}
    yours = {key for key in KEYS if pick(Traffic({1: 90, 2: 10}, "user", seed="b"), READY, having(user=key)) == 2}
    assert abs(len(mine & yours) - 200) < 90


def test_the_same_everywhere():
    """A key's side is the same in every process, release and Python: these were computed once."""
    traffic = pickle.loads(pickle.dumps(by_user(v1=40, v2=30, v7=30)))
    sides = [pick(traffic, {1, 2, 7}, having(user=key)) for key in ("", "ada", "grace", "linus", "\ud800", "名")]
    assert sides == SIDES


SIDES = [7, 1, 2, 1, 7, 1]


@given(
    st.dictionaries(st.integers(0, 2**63 - 1), st.sampled_from([0.0, 1e-9, 1.0, 33.3, 100.0]), min_size=1, max_size=5),
    st.sets(st.integers(0, 2**63 - 1), max_size=3),
    st.none() | st.text(),
)
def test_what_is_picked_can_answer(weights, more, key):
    """A version with a weight that is ready, whenever there is one."""
    ready = more | set(list(weights)[:2])
    version = pick(Traffic(weights, "user"), ready, having(user=key))
    candidates = {number for number, weight in weights.items() if weight and number in ready}
    assert version in candidates if candidates else version is None


def test_in_words():
    """As people read it in a history."""
    rules = (Rule("x-team", 4, frozenset({"ads", "search"})), Rule("agent", 3, pattern="curl.*"))
    assert str(Traffic({3: 90.0, 4: 10.0}, "x-user", rules)) == (
        "version 4 if x-team is 'ads' or 'search', version 3 if agent is like 'curl.*', version 3 90 %, "
        "version 4 10 %, by x-user"
    )
    assert str(Traffic({3: 100.0}, mirror=Mirror(4, 12.5))) == "version 3 100 %, copies of 12.5 % to version 4"


@pytest.mark.parametrize(
    ("wanted", "before"),
    [
        (Traffic({1: 90, 2: 10}), None),
        (Traffic({1: 100, 9: 0}), None),
        (Traffic({1: 90, 9: 10}), Traffic({1: 95, 9: 5})),
        (Traffic({1: 100}, rules=(Rule("a", 9),)), Traffic({9: 100})),
        (Traffic({1: 100}, mirror=Mirror(2, 100)), None),
        (Traffic({1: 100}, mirror=Mirror(9, 0)), None),
        (Traffic({1: 100}, mirror=Mirror(9, 50)), Traffic({1: 100}, mirror=Mirror(9, 10))),
    ],
)
def test_traffic_that_may_be_given(wanted, before):
    """To versions that are ready, or that had some before, or none of it."""
    check_traffic("m", {"": wanted}, {"": before} if before else {}, {1, 2})


@pytest.mark.parametrize(
    ("wanted", "before"),
    [
        (Traffic({1: 90, 9: 10}), None),
        (Traffic({1: 90, 9: 10}), Traffic({1: 100, 9: 0})),
        (Traffic({1: 100, 9: 0}, rules=(Rule("a", 9),)), Traffic({1: 100})),
        (Traffic({1: 100}, mirror=Mirror(9, 10)), Traffic({1: 100}, mirror=Mirror(9, 0))),
    ],
)
def test_traffic_that_may_not(wanted, before):
    """Requests are not sent anew to what cannot answer."""
    with pytest.raises(FailedPrecondition, match="version 9 of model m is not ready") as caught:
        check_traffic("m", {"": wanted}, {"": before} if before else {}, {1, 2})
    assert ("give it the share 0" in caught.value.message) == (wanted.mirror is not None)


@pytest.mark.parametrize(("share", "least", "most"), [(0, 0, 0), (100, 20_000, 20_000), (20, 3600, 4400)])
def test_the_share_that_is_copied(share, least, most):
    """None, all, or about the share: seven standard deviations are allowed."""
    assert least <= sum(is_copied(Mirror(2, share)) for _ in range(20_000)) <= most


def test_a_mirror_has_its_version_served():
    """As all that traffic names, also while nothing is copied yet."""
    assert Traffic({1: 100}, mirror=Mirror(9, 0)).versions == {1, 9}
