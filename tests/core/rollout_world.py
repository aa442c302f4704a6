"""A world for rollouts: requests that come, versions that answer them well or badly, and a clock."""

from __future__ import annotations

import random
from bisect import bisect_right
from dataclasses import dataclass, field

from serving_app.core.comparison import Comparison
from serving_app.core.evidence import Counts, Evidence, Series, Share
from serving_app.core.families import MIRROR_REQUESTS, REQUEST_LATENCY
from serving_app.core.rollout import Rollout
from serving_app.core.rollout_course import Sight, advance
from serving_app.core.strategy import Strategy

BUCKETS = len(REQUEST_LATENCY.limits) + 1


def buckets_of(*millis: float) -> tuple[float, ...]:
    """The histogram of these latencies."""
    buckets = [0.0] * BUCKETS
    for each in millis:
        buckets[bisect_right(REQUEST_LATENCY.limits, each * 1000)] += 1
    return tuple(buckets)


@dataclass
class Version:
    """How one version answers."""

    error_rate: float = 0.002
    latency_ms: float = 10.0
    wrong_rate: float = 0.001

    requests: int = 0
    errors: int = 0
    buckets: list[float] = field(default_factory=lambda: [0.0] * BUCKETS)

    def answer(self, chance: random.Random) -> None:
        self.requests += 1
        if chance.random() < self.error_rate:
            self.errors += 1
            return
        millis = self.latency_ms * chance.lognormvariate(0.0, 0.4)
        self.buckets[bisect_right(REQUEST_LATENCY.limits, millis * 1000)] += 1

    def counts(self) -> Counts:
        return Counts(Share(self.errors, self.requests), tuple(self.buckets))


class World:
    """One rollout of version 2 in place of version 1, and the requests that come meanwhile."""

    def __init__(self, strategy: Strategy, candidate: Version, *, seed: int = 0, per_s: float = 20.0) -> None:
        self.chance = random.Random(seed)
        self.present, self.candidate = Version(), candidate
        self.per_s = per_s
        self.now = 0.0
        self.series = Series()
        self.told: dict[tuple[str, int], float | str] = {}
        self.is_ready = True
        self.failure: str | None = None
        self.copies = {"same": 0, "different": 0, "failed": 0}
        self.rollout = Rollout(1, "m", "default", 1, 2, strategy, begun=0.0, since=0.0, changed=0.0)
        self.look()

    def look(self) -> None:
        """The rollout goes on by what is seen now."""
        self.series.add(self.now, Evidence(self.candidate.counts(), self.present.counts(), self._comparison()))
        self.rollout = advance(self.rollout, self.now, Sight(self.is_ready, self.failure, self.series, self.told))

    def _comparison(self) -> Comparison:
        same, different, failed = self.copies.values()
        counts = {("OK", "OK", "same"): same, ("OK", "OK", "different"): different, ("OK", "INTERNAL", ""): failed}
        return Comparison({MIRROR_REQUESTS.name: counts})

    def run(self, seconds: float, every_s: float = 1.0) -> Rollout:
        """Requests come for so long, or until the rollout is decided."""
        until = self.now + seconds
        while self.now < until and self.rollout.is_active:
            self.now += every_s
            for _ in range(round(self.per_s * every_s)):
                self._request()
            self.look()
        return self.rollout

    def _request(self) -> None:
        is_candidate = self.chance.random() * 100 < self.rollout.weight
        (self.candidate if is_candidate else self.present).answer(self.chance)
        if not is_candidate and self.chance.random() * 100 < self.rollout.mirror:
            self._copy()

    def _copy(self) -> None:
        if self.chance.random() < self.candidate.error_rate:
            self.copies["failed"] += 1
        elif self.chance.random() < self.candidate.wrong_rate:
            self.copies["different"] += 1
        else:
            self.copies["same"] += 1

    def stories(self) -> list[str]:
        """What the rollout did."""
        return [each.what for each in self.rollout.transitions]
