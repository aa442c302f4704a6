"""The figures that the project has set itself, as ratios of one run, computed from its results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.suite.contenders import (
    BARE_UVICORN,
    COLOCATED,
    KSERVE,
    NAIVE,
    OFF,
    ON,
    OURS,
    PYTHON_PEERS,
    PYTRITON,
)
from benchmarks.suite.results import CLOSED, OPEN, Record, Results

HALF, IMAGE, MOBILENET, PER_CALL = "half_plus_two", "image_mean", "mobilenet", "per_call"
NEW_VERSION = "new version of a colocated model, s"
IN_PROCESS_CPU = "CPU time of an image in the process, ms"


@dataclass(frozen=True)
class Target:
    """A bound to a ratio or a figure: at least or at most so much."""

    bound: float
    is_most: bool = False
    unit: str = "×"

    def is_reached(self, value: float) -> bool:
        """Whether a value keeps it."""
        return value <= self.bound if self.is_most else value >= self.bound

    def __str__(self) -> str:
        return f"{'≤' if self.is_most else '≥'} {self.bound:g} {self.unit}"


@dataclass(frozen=True)
class Ratio:
    """A row: what is compared, and for each of its targets what was found; None where something was not measured."""

    work: str
    targets: tuple[Target, ...]
    values: tuple[float | None, ...]

    @property
    def verdict(self) -> str:
        """`reached`, `missed` or `not measured`, for all targets together."""
        if any(value is None for value in self.values):
            return "not measured"
        kept = [target.is_reached(value) for target, value in zip(self.targets, self.values, strict=True)
                if value is not None]  # fmt: skip
        return "reached" if all(kept) else "missed"


def at_least(bound: float) -> Target:
    """A target that a ratio reaches from above."""
    return Target(bound)


def at_most(bound: float, unit: str = "×") -> Target:
    """A target that a ratio reaches from below."""
    return Target(bound, True, unit)


def divide(one: float | None, other: float | None) -> float | None:
    """The ratio of two figures; None where one of them is missing."""
    return one / other if one is not None and other else None


def highest(values: Sequence[float | None]) -> float | None:
    """The most of what is there."""
    return max((value for value in values if value is not None), default=None)


def compute(results: Results) -> list[Ratio]:
    """Every row of the table."""
    rate, p50 = results.rate, results.p50

    def rest(contender: str, setup: str, load: int, work: str = HALF) -> float | None:
        return rate(work, contender, setup, "rest", CLOSED, load)

    def grpc(contender: str, setup: str) -> float | None:
        return rate(HALF, contender, setup, "grpc", CLOSED, 64)

    def latency(contender: str, setup: str) -> float | None:
        return p50(HALF, contender, setup, "rest", CLOSED, 1)

    def best_image(contender: str, protocol: str) -> float | None:
        setups = setups_of(results, contender)
        return highest([results.best_rate(IMAGE, contender, setup, protocol) for setup in setups])

    python_rest = highest([rest(peer, "", 64) for peer in PYTHON_PEERS])
    python_image = highest([best_image(peer, "rest") for peer in PYTHON_PEERS])
    image, triton_image = best_image(OURS, "rest"), best_image(PYTRITON, "rest")
    rows: list[tuple[str, Sequence[Target], Sequence[float | None]]] = [
        ("REST half_plus_two, dedicated, c=64, batching on, against the plain Ray Serve app",
         [at_least(40)], [divide(rest(OURS, ON, 64), rest(NAIVE, "", 64))]),
        ("… against the best of KServe, LitServe, MLServer, BentoML",
         [at_least(5)], [divide(rest(OURS, ON, 64), python_rest)]),
        ("… against PyTriton REST (C++), c=64",
         [at_least(2)], [divide(rest(OURS, ON, 64), rest(PYTRITON, "", 64))]),
        ("… the same at c=256",
         [at_least(4)], [divide(rest(OURS, ON, 256), rest(PYTRITON, "", 256))]),
        ("… batching off (TFS's default), c=64, against PyTriton REST",
         [at_least(1.3)], [divide(rest(OURS, OFF, 64), rest(PYTRITON, "", 64))]),
        ("… c=1 median latency against PyTriton",
         [at_most(0.9)], [divide(latency(OURS, OFF), latency(PYTRITON, ""))]),
        ("REST half_plus_two, colocated, c=64, against PyTriton REST",
         [at_least(5)], [divide(rest(OURS, COLOCATED, 64), rest(PYTRITON, "", 64))]),
        ("… c=64, against a bare uvicorn app doing the same JSON work without a model",
         [at_least(0.7)], [divide(rest(OURS, COLOCATED, 64), rest(BARE_UVICORN, "", 64))]),
        ("… c=1 median latency against KServe in-process",
         [at_most(0.6)], [divide(latency(OURS, COLOCATED), latency(KSERVE, ""))]),
        ("new version of a colocated half_plus_two, from first seen to served",
         [at_most(0.3, "s")], [results.figure(NEW_VERSION)]),
        ("gRPC Predict half_plus_two, c=64, against PyTriton gRPC, same client: dedicated, colocated",
         [at_least(1.0), at_least(1.4)],
         [divide(highest([grpc(OURS, ON), grpc(OURS, OFF)]), grpc(PYTRITON, "")),
          divide(grpc(OURS, COLOCATED), grpc(PYTRITON, ""))]),
        ("224×224×3 image as JSON, best throughput, against the best Python peer, and against PyTriton REST",
         [at_least(10), at_least(1.0)], [divide(image, python_image), divide(image, triton_image)]),
        ("the same as gRPC tensor, against PyTriton gRPC",
         [at_least(1.0)], [divide(best_image(OURS, "grpc"), best_image(PYTRITON, "grpc"))]),
        ("MobileNetV2 by gRPC, batching on: CPU time of all server processes per image, against the model's own "
         "in-process",
         [at_most(1.15)], [divide(_image_cpu(results), results.figure(IN_PROCESS_CPU))]),
        ("half_plus_two with batching on against off, c=64: no worse; and on the model with per-call cost",
         [at_least(1.0), at_least(3)],
         [divide(rest(OURS, ON, 64), rest(OURS, OFF, 64)),
          divide(rest(OURS, ON, 64, PER_CALL), rest(OURS, OFF, 64, PER_CALL))]),
        ("open loop at half of the best throughput: p99 / p50",
         [at_most(4)], [highest(_open_loops(results))]),
    ]  # fmt: skip
    return [Ratio(work, tuple(targets), tuple(values)) for work, targets, values in rows]


def setups_of(results: Results, contender: str) -> list[str]:
    """Every set-up of a server that was measured."""
    return list(dict.fromkeys(key.setup for key in results.measured() if key.contender == contender))


def _image_cpu(results: Results) -> float | None:
    """At the load with the highest throughput, where a batch is as large as it gets."""
    loads = [key for key in results.measured() if (key.work, key.contender, key.setup, key.protocol, key.loop)
             == (MOBILENET, OURS, ON, "grpc", CLOSED)]  # fmt: skip
    rates: Callable[[Record], float | None] = lambda record: record.rate  # noqa: E731
    best = max(loads, key=lambda key: spread.median if (spread := results.spread(key, rates)) else 0.0, default=None)
    if best is None:
        return None
    return results.server_cpu(best.work, best.contender, best.setup, best.protocol, best.loop, best.load)


def _open_loops(results: Results) -> list[float | None]:
    """p99 / p50 of each of our set-ups, by REST: the worst of them is the row's."""
    found: list[float | None] = []
    for key in results.measured():
        if (key.work, key.contender, key.protocol, key.loop, key.load) == (HALF, OURS, "rest", OPEN, "half"):
            spread = results.spread(key, lambda record: record.p99_ms / record.p50_ms)
            found.append(spread.median if spread else None)
    return found
