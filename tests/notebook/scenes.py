"""Recordings as they might come about, for what draws them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from serving_app.core.comparison import Comparison, read_comparison
from serving_app.core.evidence import Counts, Share
from serving_app.core.families import MIRROR_LATENCY, MIRROR_OUTPUTS, MIRROR_REQUESTS, MIRROR_SCORES, MIRROR_TOP
from serving_app.core.metrics import Registry
from serving_app.core.rollout import Phase, Rollout, Transition
from serving_app.core.strategy import SetWeight, Strategy
from serving_app.notebook.recording import Look, Recording
from tests.core.rollout_world import BUCKETS, buckets_of

BEGUN = 1000.0


def counts(requests: float, errors: float = 0, millis: float = 3.0) -> Counts:
    """What a version got: so many requests, of which some failed; the others took equally long."""
    one = buckets_of(millis)
    return Counts(Share(errors, requests), tuple((requests - errors) * each for each in one))


def recording(
    *rows: Mapping[int, Counts], weights: Sequence[Mapping[int, float]] = (), copies: Sequence[Comparison] = ()
) -> Recording:
    """Looks a second apart, which find that these counts have been added; with the weights of `stable` at each."""
    found = Recording("digits")
    total: dict[int, Counts] = {}
    for place, row in enumerate(rows):
        for version, more in row.items():
            before = total.get(version, Counts())
            buckets = zip(before.latency or (0.0,) * BUCKETS, more.latency or (0.0,) * BUCKETS, strict=True)
            total[version] = Counts(before.errors.plus(more.errors), tuple(map(sum, buckets)))
        compared = {(1, 2): copies[place]} if copies else {}
        wanted = {"stable": weights[place]} if weights else {}
        found.add(Look(BEGUN + place, dict(total), compared, wanted))
    return found


def comparison(same: int = 0, different: int = 0, failed: int = 0) -> Comparison:
    """What so many copies show of version 2 beside version 1, of outputs with and without several scores."""
    pair = ("digits", "1", "2")
    registry = Registry()
    for count, status, agreement in ((same, "OK", "same"), (different, "OK", "different"), (failed, "INTERNAL", "")):
        for _ in range(count):
            registry.count(MIRROR_REQUESTS, (*pair, "OK", status, agreement))
            registry.observe(MIRROR_LATENCY, (*pair, "version"), 2000)
            if not agreement:
                continue
            registry.observe(MIRROR_LATENCY, (*pair, "candidate"), 4000)
            for signature, output in (("serving_default", "scores"), ("other", "digit")):
                registry.count(MIRROR_OUTPUTS, (*pair, signature, output, agreement))
            registry.count(MIRROR_TOP, (*pair, "serving_default", "scores", agreement))
            registry.observe(MIRROR_SCORES, (*pair, "serving_default", "scores", "version"), 0.95)
            registry.observe(
                MIRROR_SCORES, (*pair, "serving_default", "scores", "candidate"), 0.95 if agreement == "same" else -2.0
            )
    return read_comparison(registry.counts(), "digits", 1, 2)


def rollout(phase: Phase = Phase.PROMOTED, *transitions: tuple[float, str]) -> Rollout:
    """A rollout of version 2 that began with the recording and did this, by seconds since then."""
    done = [Transition(BEGUN + at, what, phase, 0.0) for at, what in transitions]
    return Rollout(
        7, "digits", "stable", 1, 2, Strategy("careful", (SetWeight(10),)), begun=BEGUN, since=BEGUN, changed=BEGUN,
        phase=phase, transitions=tuple(done),
    )  # fmt: skip
