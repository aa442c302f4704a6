"""What a version needs and what the cluster's nodes have: whether there is any node on which it could run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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


def find_largest(nodes: Iterable[NodeResources]) -> tuple[NodeResources, ...]:
    """The nodes that no other one equals or exceeds in everything, as far as it matters what fits at all.

    However many nodes there are, these are few; and they stay the same when a node comes that is like the others.
    """
    largest: list[NodeResources] = []
    # Downwards, so that whatever exceeds a node comes before it.
    for node in sorted(nodes, key=lambda node: (node.gpus, node.memory, node.cpus), reverse=True):
        if not any(_fits(Demand(node.cpus, node.gpus, node.memory), other) for other in largest):
            largest.append(node)
    return tuple(largest)


def find_misfit(demand: Demand, largest: Sequence[NodeResources]) -> str | None:
    """Why no node could ever hold this, in words; None if one could. `largest` is what `find_largest` found."""
    if any(_fits(demand, node) for node in largest):
        return None
    if not largest:
        return f"a replica needs {demand}, and there are no nodes"
    shown = "; ".join(map(str, largest[:3]))
    return f"a replica needs {demand}, and no node has that in all; the largest have: {shown}"


def _fits(demand: Demand, node: NodeResources) -> bool:
    return demand.cpus <= node.cpus and demand.gpus <= node.gpus and (demand.memory or 0) <= node.memory


def _describe(cpus: float, gpus: float, memory: int | None) -> str:
    parts = []
    if cpus:
        parts.append(f"{cpus:g} CPUs")
    if gpus:
        parts.append(f"{gpus:g} GPUs")
    if memory:
        parts.append(f"{memory / 1e9:.2f} GB of memory")
    return ", ".join(parts) or "nothing"
