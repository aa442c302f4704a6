"""Counting what came of requests and of their copies."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from serving_app.core.comparison import Side
from serving_app.core.errors import Code, ServingError
from serving_app.core.families import MIRROR_LATENCY, MIRROR_REQUESTS
from serving_app.core.metrics import Labels, Registry
from serving_app.core.routing import Candidate
from serving_app.core.servable import ServableId
from serving_app.protocol.calls import Call, Outputs, Reply
from serving_app.protocol.compared_outputs import compare_outputs

Outcome = Outputs | Code
"""What a call came to. An error is only its code: it would keep all that was under way when it was raised."""


@dataclass(eq=False)
class Copy:
    """A request that has been answered, and its copy."""

    asked: ServableId
    """The version that the client has got its answer from."""
    candidate: Candidate
    call: Call
    outcome: Outcome
    took_s: float
    nbytes: int
    """Of the call and of both answers; until the second is there it is taken to be as large as the first."""
    sent: float = 0.0
    deadline: float = 0.0

    @property
    def servable(self) -> ServableId:
        """The version that gets it."""
        return self.candidate.route.servable


class Answered(NamedTuple):
    """A copy, what it came to, and how long that took."""

    copy: Copy
    outcome: Outcome
    took_s: float


def outcome_of(reply: Reply) -> Outcome:
    """What is kept of a reply."""
    return reply.code if isinstance(reply, ServingError) else reply


def count_outcomes(registry: Registry, answered: Sequence[Answered]) -> None:
    """Count what came of requests and of their copies. May be done on any thread."""
    alike: dict[tuple[ServableId, ServableId, str, int], list[Answered]] = {}
    for each in answered:
        copy = each.copy
        key = copy.asked, copy.servable, copy.call.signature_name, id(copy.candidate.tolerances)
        alike.setdefault(key, []).append(each)
    for (asked, candidate, signature, _), group in alike.items():
        _count_alike(registry, pair_of(asked, candidate), signature, group)


def pair_of(asked: ServableId, candidate: ServableId) -> Labels:
    """What a pair of versions is called in metrics."""
    return asked.name, str(asked.version), str(candidate.version)


def _count_alike(registry: Registry, pair: Labels, signature: str, answered: Sequence[Answered]) -> None:
    """Count those of one pair of versions, for one signature and with the same tolerances."""
    both: list[tuple[Outputs, Outputs]] = []
    counts: Counter[tuple[str, str, str]] = Counter()
    taken: dict[Side, list[float]] = {Side.VERSION: [], Side.CANDIDATE: []}
    for copy, other, other_took_s in answered:
        real = copy.outcome
        if not isinstance(real, Code):
            taken[Side.VERSION].append(copy.took_s)
        if not isinstance(other, Code):
            taken[Side.CANDIDATE].append(other_took_s)
        if isinstance(real, Code) or isinstance(other, Code):
            counts[_status(real), _status(other), ""] += 1
        else:
            both.append((real, other))
    compared = compare_outputs(both, answered[0].copy.candidate.tolerances)
    compared.tell(registry, pair, signature)
    counts.update((_OK, _OK, agreement.value) for agreement in compared.agreements)
    for labels, count in counts.items():
        registry.count(MIRROR_REQUESTS, (*pair, *labels), count)
    for side, seconds in taken.items():
        if seconds:
            registry.add_observed(MIRROR_LATENCY, (*pair, side.value), _latencies(seconds))


_OK = Code.OK.name


def _status(outcome: Outcome) -> str:
    return outcome.name if isinstance(outcome, Code) else _OK


def _latencies(taken: Sequence[float]) -> list[float]:
    limits = MIRROR_LATENCY.limits
    cell = [0.0] * (len(limits) + 2)
    for took_s in taken:
        micros = int(took_s * 1e6)
        cell[bisect_right(limits, micros)] += 1
        cell[-1] += micros
    return cell
