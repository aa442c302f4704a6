"""What a version needs and what the cluster's nodes have: whether there is any node on which it could run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Demand:
    """What one replica of a version reserves. `memory` is in bytes; None means that nothing is known about it."""

    cpus: float = 0.0
    gpus: float = 0.0
    memory: int | None = None

    def __str__(self) -> str:
        return _describe(self.cpus, self.gpus, self.memory)


@dataclass(frozen=True, slots=True)
class NodeResources:
    """What one node has in all, whether or not somebody uses it now."""

    cpus: float
    gpus: float
    memory: int

    def __str__(self) -> str:
        return _describe(self.cpus, self.gpus, self.memory)


def find_misfit(demand: Demand, nodes: Iterable[NodeResources]) -> str | None:
    """Why no node could ever hold this, in words; None if one could."""
    known = list(nodes)
    if any(_fits(demand, node) for node in known):
        return None
    if not known:
        return f"a replica needs {demand}, and there are no nodes"
    largest = "; ".join(map(str, _largest(known)))
    return f"a replica needs {demand}, and no node has that in all; the largest have: {largest}"


def _fits(demand: Demand, node: NodeResources) -> bool:
    return demand.cpus <= node.cpus and demand.gpus <= node.gpus and (demand.memory or 0) <= node.memory


def _largest(nodes: list[NodeResources]) -> list[NodeResources]:
    ordered = sorted(set(nodes), key=lambda node: (node.gpus, node.memory, node.cpus), reverse=True)
    return ordered[:3]


def _describe(cpus: float, gpus: float, memory: int | None) -> str:
    parts = []
    if cpus:
        parts.append(f"{cpus:g} CPUs")
    if gpus:
        parts.append(f"{gpus:g} GPUs")
    if memory:
        parts.append(f"{memory / 1e9:.2f} GB of memory")
    return ", ".join(parts) or "nothing"
