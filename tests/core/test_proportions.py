"""Shares held against one another: by values that others have published, and by adding up every case there is."""

from __future__ import annotations

import math

import pytest

from serving_app.core.errors import InvalidArgument
from serving_app.core.evidence import Share
from serving_app.core.proportions import compare, interval_of, needed_samples, split_p_value


@pytest.mark.parametrize(
    ("count", "of", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (20, 20, 0.8389, 1.0),
        (0, 0, 0.0, 1.0),
    ],
)
def test_intervals_of_shares(count: int, of: int, low: float, high: float) -> None:
    """Wilson's intervals are those that Newcombe's comparison of seven methods (1998) prints."""
    interval = interval_of(Share(count, of))
    assert (interval.low, interval.high) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


def test_an_interval_has_its_share_in_it() -> None:
    """Whatever rounding does, also where a share is nothing or everything."""
    for of in range(1, 60):
        for count in (0, 1, of // 2, of):
            interval = interval_of(Share(count, of))
            assert 0 <= interval.low <= count / of <= interval.high <= 1


@pytest.mark.parametrize(
    ("after", "before", "low", "high"),
    [
        (Share(56, 70), Share(48, 80), 0.0524, 0.3339),
        (Share(9, 10), Share(3, 10), 0.1705, 0.8090),
        (Share(6, 7), Share(2, 7), 0.0582, 0.8062),
        (Share(5, 56), Share(0, 29), -0.0381, 0.1926),
        (Share(0, 10), Share(0, 20), -0.1611, 0.2775),
        (Share(10, 10), Share(0, 20), 0.6791, 1.0),
        (Share(10, 10), Share(0, 10), 0.6075, 1.0),
    ],
)
def test_intervals_of_differences(after: Share, before: Share, low: float, high: float) -> None:
    """Intervals of differences are those that Newcombe's comparison of eleven methods (1998) prints for his tenth."""
    interval = compare(before, after).interval
    assert (interval.low, interval.high) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


def probability(count: int, of: int, each: float) -> float:
    return math.comb(of, count) * each**count * (1 - each) ** (of - count)


@pytest.mark.parametrize(("before", "after"), [(0.1, 0.1), (0.5, 0.5), (0.2, 0.4), (0.02, 0.1)])
def test_intervals_hold_what_they_promise(before: float, after: float) -> None:
    """Over every pair of samples that may come, weighed by how likely it is, nearly 95 of 100 intervals have the truth
    in them."""
    hits = 0.0
    for count in range(41):
        for other in range(51):
            interval = compare(Share(count, 40), Share(other, 50)).interval
            if interval.low <= after - before <= interval.high:
                hits += probability(count, 40, before) * probability(other, 50, after)
    assert 0.93 < hits < 0.985


@pytest.mark.parametrize(
    ("before", "after", "power", "confidence", "samples"),
    [(0.1, 0.12, 0.8, 0.95, 3841), (0.5, 0.6, 0.8, 0.95, 388), (0.2, 0.5, 0.8, 0.95, 39), (0.5, 0.6, 0.9, 0.99, 735)],
)
def test_needed_samples(before: float, after: float, power: float, confidence: float, samples: int) -> None:
    """Sizes are those of the usual formula (Fleiss), the same in both directions."""
    assert needed_samples(before, after, power=power, confidence=confidence) == samples
    assert needed_samples(after, before, power=power, confidence=confidence) == samples


@pytest.mark.parametrize(("before", "after"), [(0.2, 0.5), (0.3, 0.6), (0.1, 0.3)])
def test_needed_samples_suffice(before: float, after: float) -> None:
    """Over all that may come, a change that is there is found in about 80 of 100 cases, and one that is not in about 5.
    """
    size = needed_samples(before, after)
    found = wrongly = 0.0
    for count in range(size + 1):
        for other in range(size + 1):
            if compare(Share(count, size), Share(other, size)).is_sure:
                found += probability(count, size, before) * probability(other, size, after)
                wrongly += probability(count, size, before) * probability(other, size, before)
    assert 0.78 < found < 0.84
    assert wrongly < 0.06


def test_a_difference_tells_itself() -> None:
    """A difference is told in percentage points, with its interval and how likely chance is; two alike differ by none.
    """
    difference = compare(Share(100, 1000), Share(150, 1000))
    assert str(difference) == "+5.00 percentage points (95% interval: +2.10 to +7.90, p = 0.00072)"
    assert difference.is_sure
    for alike in (Share(0, 10), Share(10, 10), Share(0, 0)):
        same = compare(alike, alike)
        assert (same.value, same.p_value, same.is_sure) == (0.0, 1.0, False)


@pytest.mark.parametrize(
    ("counts", "weights", "expected"),
    [
        ({1: 50, 2: 50}, {1: 50, 2: 50}, 1.0),
        ({1: 60, 2: 40}, {1: 50, 2: 50}, 0.04550),  # 2 standard deviations
        ({1: 821_588, 2: 815_482}, {1: 50, 2: 50}, 1.8e-6),
        ({1: 10, 2: 20, 3: 30}, {1: 1, 2: 1, 3: 1}, math.exp(-5)),
        ({1: 25, 2: 25, 3: 25, 4: 45}, {1: 25, 2: 25, 3: 25, 4: 25}, 0.01857),  # chi-square of 10 with 3
        ({1: 100, 2: 1}, {1: 100, 2: 0}, 0.0),
        ({1: 100}, {1: 50, 2: 50}, 1.5e-23),
        ({1: 2, 2: 6}, {1: 50, 2: 50}, None),
        ({}, {1: 50, 2: 50}, None),
        ({1: 100}, {1: 100}, None),
        ({1: 100}, {1: 100, 2: 0}, None),
    ],
)
def test_splits_that_are_not_what_they_should_be(
    counts: dict[int, float], weights: dict[int, float], expected: float | None
) -> None:
    """Counts that the weights do not explain are told, as chi-square does; nothing is said of few."""
    found = split_p_value(counts, weights)
    assert found is expected if found is None else found == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize(
    ("call", "why"),
    [
        (lambda: needed_samples(0.1, 0.1), "no number of samples"),
        (lambda: needed_samples(0.1, 1.2), "after is 1.2"),
        (lambda: needed_samples(0.1, 0.2, power=1), "power is 1"),
        (lambda: needed_samples(0.1, 0.2, confidence=95), "confidence is 95"),
        (lambda: interval_of(Share(1, 2), 0), "confidence is 0"),
        (lambda: interval_of(Share(3, 2)), "3 of 2 is no share"),
        (lambda: compare(Share(1, 2), Share(-1, 2)), "-1 of 2 is no share"),
        (lambda: split_p_value({3: 1}, {1: 50, 2: 50}), "no weight for 3"),
        (lambda: split_p_value({1: 5, 2: 5}, {1: 0, 2: 0}), "some weight is more"),
        (lambda: split_p_value({1: 5, 2: 5}, {1: -1, 2: 2}), "are 0 or more"),
        (lambda: split_p_value({1: 5, 2: -5}, {1: 1, 2: 1}), "are 0 or more"),
    ],
)
def test_questions_that_make_no_sense(call, why: str) -> None:  # type: ignore[no-untyped-def]
    """What cannot be answered is refused, and told."""
    with pytest.raises(InvalidArgument, match=why):
        call()
