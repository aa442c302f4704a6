"""Counting what came of requests and of their copies."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence

from serving_app.core.comparison import Side
from serving_app.core.errors import Code, ServingError
from serving_app.core.families import MIRROR_LATENCY, MIRROR_REQUESTS
from serving_app.core.metrics import Labels, Registry
from serving_app.core.traffic import Tolerance
from serving_app.protocol.calls import Reply
from serving_app.protocol.compared_outputs import compare_outputs

Outcome = tuple[Reply, float, Reply, float]
"""What a request came to and how long that took, and the same of its copy."""


def count_outcomes(
    registry: Registry, pair: Labels, signature: str, tolerances: Mapping[str, Tolerance],
    outcomes: Sequence[Outcome],
) -> None:
    """Count what came of requests of one pair of versions, for one signature, and of their copies."""
    answered = [
        (real, other)
        for real, _, other, _ in outcomes
        if isinstance(real, dict) and isinstance(other, dict)
    ]
    compared = compare_outputs(answered, tolerances)
    compared.tell(registry, pair, signature)
    counts = Counter((_OK, _OK, agreement.value) for agreement in compared.agreements)
    counts.update(
        (_status(real), _status(other), "")
        for real, _, other, _ in outcomes
        if not (isinstance(real, dict) and isinstance(other, dict))
    )
    for labels, count in counts.items():
        registry.count(MIRROR_REQUESTS, (*pair, *labels), count)
    for side, taken in (
        (Side.VERSION, [took_s for real, took_s, _, _ in outcomes if isinstance(real, dict)]),
        (Side.CANDIDATE, [took_s for _, _, other, took_s in outcomes if isinstance(other, dict)]),
    ):
        if taken:
            registry.add_observed(MIRROR_LATENCY, (*pair, side.value), _latencies(taken))


_OK = Code.OK.name


def _status(reply: Reply) -> str:
    return reply.code.name if isinstance(reply, ServingError) else _OK


def _latencies(taken: Sequence[float]) -> list[float]:
    limits = MIRROR_LATENCY.limits
    cell = [0.0] * (len(limits) + 2)
    for took_s in taken:
        micros = int(took_s * 1e6)
        cell[bisect_right(limits, micros)] += 1
        cell[-1] += micros
    return cell
