"""What callers have brought, on its way to where it is kept."""

from __future__ import annotations

import pytest

from serving_app.client.courier import Parcel
from serving_app.core.families import CALLER_LATENCY, CALLER_REQUESTS
from serving_app.core.metrics import Registry, Snapshot, total
from serving_app.serve import deliveries
from serving_app.serve.deliveries import Deliveries

LABELS = ("m", "OK", "1", "serving_default", "latest")


def parcel(number: int, requests: int = 1) -> Parcel:
    """So many requests."""
    return Parcel(number, {CALLER_REQUESTS.name: {LABELS: requests}})


def requests_in(*snapshots: Snapshot) -> float:
    value = total(snapshots).get(CALLER_REQUESTS.name, {}).get(LABELS, 0)
    assert not isinstance(value, tuple)
    return value


@pytest.mark.parametrize(
    ("before", "safe", "numbers", "taken", "requests"),
    [
        pytest.param([], 0, [1], 1, 1, id="the first"),
        pytest.param([1], 0, [2, 3], 3, 2, id="the next"),
        pytest.param([1, 2], 0, [1, 2], 2, 0, id="come twice"),
        pytest.param([1, 2], 0, [2, 3], 3, 1, id="of which one comes twice"),
        pytest.param([], 4, [5, 6], 6, 2, id="of a caller that an earlier life knew"),
        pytest.param([], 4, [6], 4, 0, id="after one that an earlier life had taken and not kept"),
        pytest.param([1, 2, 3], 2, [], 3, 0, id="none, to ask what is kept"),
    ],
)
def test_which_parcels_are_taken(before: list[int], safe: int, numbers: list[int], taken: int, requests: int) -> None:
    """The next ones, each once; none is passed over."""
    kept = Deliveries(Registry())
    kept.take("a", 0, [parcel(number) for number in before])
    kept.take("b", 0, [parcel(1)])
    known = requests_in(*kept.counts)
    assert kept.take("a", safe, [parcel(number) for number in numbers]) == (taken, safe)
    assert requests_in(*kept.counts) == known + requests


def test_what_is_kept_is_safe() -> None:
    """A caller hears that a parcel is kept when it is; what comes meanwhile is kept with the next."""
    found = Deliveries(Registry())
    found.take("a", 0, [parcel(1)])
    counts, numbers = found.begin_keeping()
    assert (requests_in(counts), numbers) == (1, {"a": 1})
    assert found.take("a", 0, [parcel(2, 4)]) == (2, 0)
    assert requests_in(*found.counts) == 5
    assert requests_in(found.end_keeping(is_kept=True)) == 1
    assert found.take("a", 0, []) == (2, 1)
    assert (found.are_there, requests_in(*found.counts)) == (True, 4)


def test_what_could_not_be_kept_is_still_there() -> None:
    """It is not safe, and kept with the next."""
    found = Deliveries(Registry())
    found.take("a", 0, [parcel(1)])
    found.begin_keeping()
    assert not found.end_keeping(is_kept=False)
    assert found.take("a", 0, []) == (1, 0)
    counts, numbers = found.begin_keeping()
    assert (requests_in(counts), numbers) == (1, {"a": 1})


def test_callers_come_and_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of so many callers at most is known what they have brought; those who came last are known."""
    monkeypatch.setattr(deliveries, "_MOST_CALLERS", 100)
    found = Deliveries(Registry())
    for number in range(1000):
        found.take(f"task {number}", 0, [parcel(1)])
        found.take("steady", 0, [parcel(number + 1)])
    _, numbers = found.begin_keeping()
    assert (len(numbers), numbers["steady"], numbers["task 999"]) == (100, 1000, 1)
    assert requests_in(*found.counts) == 2000


def test_ray_is_told_of_callers_by_the_controller() -> None:
    """All that is brought is counted once in the registry that is exported; what no release knows is left out."""
    registry = Registry()
    found = Deliveries(registry)
    cell = (1.0, *(0.0,) * len(CALLER_LATENCY.limits), 7.0)
    latency = {("m", "Predict", *LABELS[2:]): cell}
    for number in (1, 2, 2):
        counts: Snapshot = {CALLER_REQUESTS.name: {LABELS: 3}, CALLER_LATENCY.name: {**latency}, "later": {(): 1}}
        found.take("a", 0, [Parcel(number, counts)])
    counted = registry.counts()
    assert counted.keys() == {CALLER_REQUESTS.name, CALLER_LATENCY.name}
    assert counted[CALLER_REQUESTS.name] == {LABELS: 6}
    assert counted[CALLER_LATENCY.name] == {labels: tuple(2 * value for value in cell) for labels in latency}
