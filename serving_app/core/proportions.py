"""Shares held against one another: what an A/B test says, how long it takes to say it, and whether its split is sound.

A share is so many of so many, such as orders of visits. Intervals are Wilson's for one share and Newcombe's for the
difference of two (his method 10): both keep to what they promise also for few samples and for shares near 0 or 1. What
is said holds for a number of samples that was fixed beforehand (`needed_samples`): who looks again and again, and stops
at the first difference that seems sure, finds one that is not there more often than once in twenty times.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import TypeVar

from serving_app.core.errors import InvalidArgument
from serving_app.core.evidence import Share

K = TypeVar("K", bound=Hashable)

_LEAST_EXPECTED = 5.0
"""With fewer in a group, the distribution of chi-square says little (Cochran's rule)."""


@dataclass(frozen=True, slots=True)
class Interval:
    """Where a value lies with some confidence."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Difference:
    """By how much one share is above another. `p_value` is how often chance alone would make them differ so much."""

    value: float
    interval: Interval
    p_value: float
    confidence: float

    @property
    def is_sure(self) -> bool:
        """Whether chance is not what explains it."""
        return self.p_value < 1 - self.confidence

    def __str__(self) -> str:
        points = [f"{100 * each:+.2f}" for each in (self.value, self.interval.low, self.interval.high)]
        return (
            f"{points[0]} percentage points ({self.confidence:.0%} interval: {points[1]} to {points[2]}, "
            f"p = {self.p_value:.2g})"
        )


def interval_of(share: Share, confidence: float = 0.95) -> Interval:
    """Where the probability lies that a share comes from; anywhere, while it is one of nothing."""
    if not 0 <= share.count <= share.of:
        raise InvalidArgument(
            f"{share.count:g} of {share.of:g} is no share; count what each sample did once at most, as whether it did"
        )
    return wilson(share, _deviations(confidence))


def wilson(share: Share, z: float) -> Interval:
    """The probabilities from which a share is at most so many standard deviations away."""
    if not share.of:
        return Interval(0.0, 1.0)
    middle = (share.count + z * z / 2) / (share.of + z * z)
    spread = z * math.sqrt(share.value * (1 - share.value) * share.of + z * z / 4) / (share.of + z * z)
    # Rounding must not put the share itself outside.
    return Interval(max(0.0, min(share.value, middle - spread)), min(1.0, max(share.value, middle + spread)))


def compare(before: Share, after: Share, confidence: float = 0.95) -> Difference:
    """By how much the second share is above the first."""
    value = after.value - before.value
    old, new = interval_of(before, confidence), interval_of(after, confidence)
    low = value - math.hypot(after.value - new.low, old.high - before.value)
    high = value + math.hypot(new.high - after.value, before.value - old.low)
    return Difference(value, Interval(max(-1.0, low), min(1.0, high)), _p_value(before, after), confidence)


def _p_value(before: Share, after: Share) -> float:
    """Of the test of two proportions, two-sided, with the probability that both have in common."""
    if not before.of or not after.of:
        return 1.0
    common = before.plus(after).value
    deviation = math.sqrt(common * (1 - common) * (1 / before.of + 1 / after.of))
    if not deviation:  # all or nobody, on both sides
        return 1.0
    return math.erfc(abs(after.value - before.value) / deviation / math.sqrt(2))


def needed_samples(before: float, after: float, *, power: float = 0.8, confidence: float = 0.95) -> int:
    """How many samples each side needs, so that a change of the probability from one to the other is found.

    `power` is how often it is found if it is there, and 1 - `confidence` how often one is found that is not.
    """
    for name, value in (("before", before), ("after", after)):
        if not 0 <= value <= 1:
            raise InvalidArgument(f"{name} is {value:g}, and a probability is from 0 to 1")
    if before == after:
        raise InvalidArgument("no number of samples tells two equal probabilities apart; name a change worth finding")
    if not 0 < power < 1:
        raise InvalidArgument(f"power is {power:g}; it is a probability between 0 and 1, such as 0.8")
    common = (before + after) / 2
    by_chance = _deviations(confidence) * math.sqrt(2 * common * (1 - common))
    if_there = NormalDist().inv_cdf(power) * math.sqrt(before * (1 - before) + after * (1 - after))
    return math.ceil(((by_chance + if_there) / (after - before)) ** 2)


def split_p_value(counts: Mapping[K, float], weights: Mapping[K, float]) -> float | None:
    """How often chance alone would share samples out so differently from the weights, by chi-square.

    Where that is below 0.001 or so, samples get lost or counted twice on one side, and what they say must not be
    believed, however sure it seems: a *sample ratio mismatch*. None if there are too few samples to tell.
    """
    if unknown := counts.keys() - weights.keys():
        raise InvalidArgument(f"there is no weight for {', '.join(sorted(map(str, unknown)))}; name one, or 0")
    if min([*counts.values(), *weights.values()], default=0) < 0 or not any(weights.values()):
        raise InvalidArgument("counts and weights are 0 or more, and some weight is more")
    of = sum(counts.values())
    whole = sum(weights.values())
    if any(counts.get(key, 0) for key, weight in weights.items() if not weight):
        return 0.0
    groups = [(counts.get(key, 0), of * weight / whole) for key, weight in weights.items() if weight]
    if len(groups) < 2 or min(expected for _, expected in groups) < _LEAST_EXPECTED:
        return None
    return _chi_square_tail(sum((count - expected) ** 2 / expected for count, expected in groups), len(groups) - 1)


def _chi_square_tail(value: float, freedoms: int) -> float:
    """The probability of a larger value: for whole degrees of freedom a sum with an end."""
    half = value / 2
    if not half:
        return 1.0
    start, tail = (0.0, 0.0) if freedoms % 2 == 0 else (0.5, math.erfc(math.sqrt(half)))
    exponents = (start + step for step in range(freedoms // 2))
    return min(1.0, tail + sum(math.exp(each * math.log(half) - half - math.lgamma(each + 1)) for each in exponents))


def _deviations(confidence: float) -> float:
    """So many standard deviations to either side hold this part of the normal distribution."""
    if not 0 < confidence < 1:
        raise InvalidArgument(f"confidence is {confidence:g}; it is a probability between 0 and 1, such as 0.95")
    return NormalDist().inv_cdf((1 + confidence) / 2)
