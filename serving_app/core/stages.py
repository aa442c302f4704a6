"""Where the time of a request goes: its stages, in order, and what two looks at the counts tell about them.

The stages of a request add up to what `request_latency` counts. A gateway takes a few stamps of each request, and one
set of figures for all requests that travelled together; see `serving_app.serve.request_meter`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple, Protocol

from serving_app.core.families import STAGE_MICROSECONDS, STAGE_REQUESTS
from serving_app.core.metrics import Family, Labels, Snapshot


class Stage(Enum):
    """The parts of a request's time, in their order."""

    DECODE = "decode"
    """From the whole request to tensors, with finding the version."""
    QUEUE = "queue"
    """Waiting in the gateway for others to travel with, and for a way."""
    HOP = "hop"
    """There and back, besides what the replica tells of. A version in the gateway's own process has none."""
    BATCH_WAIT = "batch_wait"
    """Where the version is, besides the run: for a batch, for a thread, for those that came along."""
    RUN = "run"
    """The run of the model that the request was part of."""
    RESUME = "resume"
    """From when its answer is back in the gateway until the gateway comes to it."""
    ENCODE = "encode"
    """From tensors to the whole answer."""


class Leg(NamedTuple):
    """What requests had in common that travelled together. All in seconds; the first two are `time.perf_counter`'s."""

    left: float
    back: float
    hop: float
    batch_wait: float
    run: float


def leg(left: float, back: float, requests: int, held: float, ran: float) -> Leg:
    """The figures of so many requests, which left and came back together.

    Meanwhile a replica held them for `held`, and their runs took `ran`, all together: one that was part of a run of
    many has taken as long as that run. One whose rows ran in pieces, at one time, has taken no longer than it was held.
    """
    held = min(held, back - left)
    run = min(ran / requests, held)
    return Leg(left, back, back - left - held, held - run, run)


class Traveller(Protocol):
    """A request that wants to know of its leg, before its answer is given."""

    leg: Leg | None


class StageTime(NamedTuple):
    """How long requests spent in one stage: on average, and as a part of the whole."""

    stage: Stage
    mean_s: float
    share: float


class Breakdown(NamedTuple):
    """Requests to one model by one entrypoint."""

    model: str
    entrypoint: str
    requests: int
    mean_s: float
    stages: tuple[StageTime, ...]


def break_down(before: Snapshot, after: Snapshot, model: str | None = None) -> list[Breakdown]:
    """What was counted between two looks at everything, of all models or of one, busiest first.

    Each average is that of all requests, so the averages add up. Stages that no request has passed are left out.
    """
    requests, micros = (_growth(before, after, family) for family in (STAGE_REQUESTS, STAGE_MICROSECONDS))
    passed: dict[tuple[str, str], Counter[Stage]] = {}
    taken: dict[tuple[str, str], Counter[Stage]] = {}
    for (name, version, entrypoint, stage), count in requests.items():
        if count and model in (None, name):
            passed.setdefault((name, entrypoint), Counter())[Stage(stage)] += count
            spent = micros.get((name, version, entrypoint, stage), 0)
            taken.setdefault((name, entrypoint), Counter())[Stage(stage)] += spent
    parts = [_breakdown(*key, max(counts.values()), taken[key]) for key, counts in passed.items()]
    return sorted(parts, key=lambda part: -part.requests * part.mean_s)


def _growth(before: Snapshot, after: Snapshot, family: Family) -> dict[Labels, int]:
    """By how much each cell has grown. What has shrunk was forgotten, and counted anew."""
    old = before.get(family.name, {})
    grown = {}
    for labels, value in after.get(family.name, {}).items():
        known = old.get(labels, 0)
        assert not isinstance(value, tuple)
        assert not isinstance(known, tuple)
        grown[labels] = int(value - known if known <= value else value)
    return grown


def _breakdown(model: str, entrypoint: str, requests: int, micros: Mapping[Stage, int]) -> Breakdown:
    whole = sum(micros.values())
    stages = [
        StageTime(stage, micros[stage] / 1e6 / requests, micros[stage] / (whole or 1))
        for stage in Stage
        if stage in micros
    ]
    return Breakdown(model, entrypoint, requests, whole / 1e6 / requests, tuple(stages))
