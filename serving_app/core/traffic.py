"""How the requests that name one target, a label or just the model, are shared among versions.

Three things decide, in this order: the audience's rules, of which the first that fits counts; the weights, by the
sticky attribute if there is one and the request has it; and chance.

An attribute is a header of HTTP or a key of gRPC's metadata, in small letters, or, as `input:NAME`, the first value of
one of the request's inputs.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b

from serving_app.core.errors import FailedPrecondition
from serving_app.core.pattern import LONGEST_TEXT, Pattern

Attributes = Callable[[str], str | None]
"""What a request has as this attribute; None if it has none."""

FirstValue = Callable[[str], str | None]
"""The first value of a request's input of this name; None if there is none."""

INPUT = "input:"
"""What the names of attributes begin with that are looked for among a request's inputs."""

DEFAULT_TARGET = "default"
"""What people call the requests that name neither a version nor a label."""

WHOLE = 100
"""What the weights of a target add up to."""


def no_attributes(_name: str) -> str | None:
    """The attributes of a request of which nothing is known."""
    return None


@dataclass(frozen=True, slots=True)
class Rule:
    """Requests with such an attribute go to a version, whatever the weights are.

    `values` are the texts that it may be equal to; a `pattern` (see `serving_app.core.pattern`) is for the whole of it.
    """

    attribute: str
    version: int
    values: frozenset[str] = frozenset()
    pattern: str | None = None

    def __str__(self) -> str:
        return f"version {self.version} if {self.condition}"

    @property
    def condition(self) -> str:
        """Which requests are meant, in words."""
        meant = " or ".join(sorted(map(repr, self.values))) if self.pattern is None else f"like {self.pattern!r}"
        return f"{self.attribute} is {meant}"

    def fits(self, attributes: Attributes) -> bool:
        """Whether a request is meant."""
        value = attributes(self.attribute)
        if value is None:
            return False
        if self.pattern is not None:
            return len(value) <= LONGEST_TEXT and _fits(self.pattern, value)
        return value in self.values


@lru_cache(maxsize=1024)
def _fits(pattern: str, text: str) -> bool:
    # Clients send the same again and again: who they are, what they are made with.
    return _compile(pattern).fits(text)


@lru_cache(maxsize=256)
def _compile(pattern: str) -> Pattern:
    return Pattern(pattern)


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far a value may be from another to count as the same: by so much, and by such a part of it besides."""

    absolute: float = 1e-6
    relative: float = 1e-3


@dataclass(frozen=True, slots=True)
class Mirror:
    """Of a target's requests a share, in percent, is copied to a version, whose answers nobody gets to see."""

    version: int
    share: float
    tolerances: Mapping[str, Tolerance] = field(default_factory=dict)
    """By output. Of the others numbers with fractions have the usual tolerance, everything else has none."""

    def __str__(self) -> str:
        return f"copies of {self.share:g} % to version {self.version}"


@dataclass(frozen=True, slots=True)
class Traffic:
    """How one target's requests are shared. `weights` are percentages, by version."""

    weights: Mapping[int, float]
    sticky: str | None = None
    """The attribute by which one user, session or whatever it tells of stays on one version."""
    rules: tuple[Rule, ...] = ()
    seed: str = ""
    """Told into the hash, so that who has the new version of one model does not have that of every other."""
    mirror: Mirror | None = None

    versions: frozenset[int] = field(init=False)
    """Every version that it names, those with the weight 0 included: they are to be there when it grows."""

    def __post_init__(self) -> None:
        mirrored = [] if self.mirror is None else [self.mirror.version]
        named = [*self.weights, *(rule.version for rule in self.rules), *mirrored]
        object.__setattr__(self, "versions", frozenset(named))

    def __str__(self) -> str:
        shares = [f"version {number} {weight:g} %" for number, weight in self.weights.items()]
        by = f", by {self.sticky}" if self.sticky else ""
        copies = f", {self.mirror}" if self.mirror is not None else ""
        return ", ".join([*map(str, self.rules), *shares]) + by + copies


def versions_of(shared: Iterable[Traffic]) -> frozenset[int]:
    """Every version that one of these names."""
    return frozenset(number for traffic in shared for number in traffic.versions)


def pick(traffic: Traffic, ready: Collection[int], attributes: Attributes) -> int | None:
    """The version for one request, of those that are `ready`; None if there is none.

    Where a version is missing, the others share its requests as their weights say: a request that can be answered is
    answered. So is one that a rule sends to a missing version.
    """
    for rule in traffic.rules:
        if rule.version in ready and rule.fits(attributes):
            return rule.version
    key = attributes(traffic.sticky) if traffic.sticky is not None else None
    if key is not None:
        return _pick_by_key(traffic, ready, key)
    return _pick_by_chance(traffic.weights, ready)


def is_copied(mirror: Mirror) -> bool:
    """Whether chance has it that one request is copied."""
    return random.random() * WHOLE < mirror.share


def _pick_by_chance(weights: Mapping[int, float], ready: Collection[int]) -> int | None:
    total = sum(weight for number, weight in weights.items() if number in ready)
    at = random.random() * total
    chosen = None
    for number, weight in weights.items():
        if weight and number in ready:
            chosen = number
            at -= weight
            if at < 0:
                break
    return chosen  # the last one where rounding left a crumb


def _pick_by_key(traffic: Traffic, ready: Collection[int], key: str) -> int | None:
    """By weighted rendezvous: each version draws a number from the key and itself, and the best for its weight wins.

    A version draws the same number whatever the weights are, so when one grows at another's cost, keys move from that
    one to this and nowhere else; and all processes come to the same result without a word between them.
    """
    digest = blake2b(f"{traffic.seed}\0{key}".encode(errors="surrogatepass"), digest_size=8).digest()
    drawn = int.from_bytes(digest, "little")
    chosen, best = None, math.inf
    for number, weight in traffic.weights.items():
        if weight and number in ready:
            # Exponential with the weight as its rate: the least of several is each one's with its share as probability.
            score = -math.log((_mix(drawn, number) + 0.5) * 2.0**-53) / weight
            if chosen is None or score < best:
                chosen, best = number, score
    return chosen


_MASK = (1 << 64) - 1


def _mix(drawn: int, number: int) -> int:
    """53 random bits out of both: the finalizer of SplitMix64."""
    mixed = (drawn + (number + 1) * 0x9E3779B97F4A7C15) & _MASK
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
    return (mixed ^ (mixed >> 31)) >> 11


def check_traffic(
    model: str, wanted: Mapping[str, Traffic], before: Mapping[str, Traffic], available: Collection[int]
) -> None:
    """Raise FailedPrecondition if requests would be sent to a version that cannot answer, and were not before."""
    for target, traffic in wanted.items():
        old = _with_requests(before[target]) if target in before else set()
        for number in sorted(_with_requests(traffic) - old):
            if number not in available:
                mirror = traffic.mirror
                is_copied_to = mirror is not None and mirror.version == number and not traffic.weights.get(number)
                what, how = ("copies", "share") if is_copied_to else ("requests", "weight")
                raise FailedPrecondition(
                    f"version {number} of model {model} is not ready, so no {what} can be sent to it; give it the "
                    f"{how} 0, which has it served, and more when it is ready"
                )


def _with_requests(traffic: Traffic) -> set[int]:
    """The versions that get any, or copies of them."""
    used = {number for number, weight in traffic.weights.items() if weight}
    copied = {traffic.mirror.version} if traffic.mirror is not None and traffic.mirror.share else set()
    return used | copied | {rule.version for rule in traffic.rules}
