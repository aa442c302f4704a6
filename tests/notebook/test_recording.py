"""What is read of a serving app at each look, and what looks tell together."""

from __future__ import annotations

import threading

import pytest

from serving_app.core.evidence import Counts, Share
from serving_app.core.families import CALLER_REQUESTS, MIRROR_REQUESTS, REQUEST_COUNT, REQUEST_LATENCY
from serving_app.core.metrics import Family, Registry
from serving_app.core.servable import ServableId
from serving_app.core.states import State
from serving_app.core.traffic import Traffic
from serving_app.core.views import ModelView, VersionView
from serving_app.notebook.recording import Look, Recording, read_look
from tests.notebook.scenes import BEGUN, comparison, counts, recording


def view(*versions: tuple[int, State], **settings: object) -> ModelView:
    seen = [
        VersionView(ServableId("digits", number), state, 0.0, True, None, None, 0, None, None)
        for number, state in versions
    ]
    return ModelView("digits", True, None, None, tuple(seen), **settings)  # type: ignore[arg-type]


def test_a_look_reads_what_gates_judge_by() -> None:
    """Requests, errors and latencies of each version of the model, and copies of each pair, are found among the counts
    of the whole app; so is what the weights of each target want."""
    registry = Registry()
    asked = [("digits", "1", "OK"), ("digits", "1", "INTERNAL"), ("other", "1", "OK"), ("digits", "", "NOT_FOUND")]
    for model, version, status in asked:
        registry.count(REQUEST_COUNT, (model, status, version, "serving_default"))
    registry.observe(REQUEST_LATENCY, ("digits", "Predict", "REST", "1", "serving_default"), 3000)
    registry.count(MIRROR_REQUESTS, ("digits", "1", "3", "OK", "OK", "same"))
    registry.count(MIRROR_REQUESTS, ("other", "1", "9", "OK", "OK", "same"))
    seen = view(
        (3, State.LOADING), (2, State.READY), (1, State.READY), labels={"stable": 1, "canary": 2},
        traffic={"canary": Traffic({1: 90.0, 2: 10.0})},
    )  # fmt: skip
    look = read_look(5.0, seen, registry.counts())
    assert look.at == 5.0
    assert look.counts.keys() == {1, 2, 3}
    assert (look.counts[1].errors, sum(look.counts[1].latency)) == (Share(1, 2), 1)
    assert look.counts[2] == Counts()
    assert {pair: copies.compared for pair, copies in look.copies.items()} == {(1, 3): 1}
    assert look.weights == {"stable": {1: 100}, "canary": {1: 90, 2: 10}, "default": {2: 100}}


def test_a_version_that_is_gone_keeps_its_counts() -> None:
    """What a version got is known also when it was unloaded, or nobody knows it any more."""
    registry = Registry()
    registry.count(REQUEST_COUNT, ("digits", "OK", "7", "serving_default"), 3)
    registry.count(CALLER_REQUESTS, ("digits", "OK", *_values_of(CALLER_REQUESTS, "8")), 2)
    look = read_look(0.0, view((9, State.READY)), registry.counts())
    assert {version: each.errors.of for version, each in look.counts.items()} == {7: 3, 8: 2, 9: 0}


def _values_of(family: Family, version: str) -> list[str]:
    return [version if label == "version" else label for label in family.labels[2:]]


def test_traffic_of_requests_that_name_nothing() -> None:
    """They are `default`; where nothing shares them they go to the latest version that is ready, or to nobody."""
    shared = {"": Traffic({1: 40.0, 2: 60.0})}
    assert read_look(0.0, view((2, State.READY), traffic=shared), {}).weights == {"default": {1: 40, 2: 60}}
    assert read_look(0.0, view((2, State.LOADING)), {}).weights == {}


def test_stretches_tell_what_came_between_looks() -> None:
    """Of two looks the difference counts: rates, shares, errors and latencies; and nothing of a version without
    requests."""
    found = recording({1: counts(100), 2: Counts()}, {1: counts(90, 9), 2: counts(10, 0, 20.0)}, {1: counts(0)})
    first, second = found.stretches()
    assert (first.begin, first.end) == (BEGUN, BEGUN + 1)
    assert (first.rate(1), first.rate(2), first.rate(3)) == (90, 10, 0)
    assert (first.share(1), first.share(2)) == (0.9, 0.1)
    assert (first.error_share(1), first.error_share(2), first.error_share(3)) == (0.1, 0, None)
    assert first.latency(2, 0.5) == pytest.approx(20, rel=0.5)
    assert (second.share(1), second.error_share(1), second.latency(1, 0.5)) == (None, None, None)
    assert found.total(1).errors == Share(9, 90)
    assert found.total(3) == Counts()


def test_what_was_forgotten_counts_as_nothing() -> None:
    """Counts that shrink, as they do when a controller has lost some, are no negative requests."""
    found = Recording("digits")
    for at, requests in ((1.0, 50), (2.0, 20)):
        found.add(Look(at, {1: counts(requests)}))
    assert [stretch.rate(1) for stretch in found.stretches()] == [0]


def test_looks_are_kept_within_bounds() -> None:
    """Of more than so many looks older ones are thinned out: the first, the last and the sums stay."""
    found = Recording("digits", most_looks=50)
    for at in range(1000):
        found.add(Look(float(at), {1: counts(at)}))
    looks = found.looks
    assert len(looks) <= 50
    assert (looks[0].at, looks[-1].at) == (0.0, 999.0)
    assert sum(stretch.requests(1) for stretch in found.stretches()) == 999
    assert [look.at for look in looks[-20:]] == [float(at) for at in range(980, 1000)]


def test_long_times_are_cut_into_few_stretches() -> None:
    """However much was recorded, no more stretches come than a picture can show, and nothing is lost between them."""
    found = recording(*({1: counts(1)} for _ in range(200)))
    stretches = found.stretches(most=10)
    assert len(stretches) == 10
    assert sum(stretch.requests(1) for stretch in stretches) == 199
    assert [stretch.begin for stretch in found.stretches(BEGUN + 5, BEGUN + 7)] == [BEGUN + 5, BEGUN + 6]


@pytest.mark.parametrize("looks", [0, 1])
def test_too_few_looks_tell_nothing(looks: int) -> None:
    """Before there are two looks there are no stretches, no sums and no copies."""
    found = recording(*({1: counts(10)} for _ in range(looks)))
    assert found.stretches() == []
    assert found.total(1).errors == Share()
    assert found.copies(1, 2).requests == 0


def test_looks_come_in_order() -> None:
    """A look that is no newer than the last, as by a clock that was set back, is left out."""
    found = Recording("digits")
    for at in (1.0, 3.0, 2.0, 3.0, 4.0):
        found.add(Look(at))
    assert [look.at for look in found.looks] == [1.0, 3.0, 4.0]


def test_versions_are_in_the_order_in_which_they_came() -> None:
    """So a version keeps its place, and its colour, when another comes that is smaller."""
    assert recording({2: counts(1)}, {3: counts(1)}, {1: counts(1)}).versions == [2, 3, 1]


def test_copies_of_a_pair() -> None:
    """Copies are those between the first look and the last, of a pair; of another pair there are none."""
    found = recording({}, {}, copies=[comparison(same=5), comparison(same=8, failed=2)])
    copies = found.copies(1, 2)
    assert (copies.requests, copies.compared) == (5, 3)
    assert found.copies(1, 9).requests == 0


def test_threads_may_add_and_read() -> None:
    """While one thread adds looks, another finds them whole and in order."""
    found = Recording("digits", most_looks=10)
    adding = threading.Thread(target=lambda: [found.add(Look(float(at))) for at in range(2000)])
    adding.start()
    while adding.is_alive():
        times = [look.at for look in found.looks]
        assert times == sorted(times)
    adding.join()
    assert found.looks[-1].at == 1999.0
    assert repr(found) == f"Recording('digits', {len(found.looks)} looks, 1999 s)"
