"""Whether there is a node on which a version could run."""

from __future__ import annotations

import pytest

from serving_app.core.resources import Demand, NodeResources, find_largest, find_misfit

GB = 1_000_000_000
NODES = (NodeResources(4.0, 0.0, 10 * GB), NodeResources(2.0, 1.0, 8 * GB))


@pytest.mark.parametrize(
    ("demand", "fits"),
    [
        (Demand(), True),
        (Demand(4.0, 0.0, 10 * GB), True),
        (Demand(2.0, 1.0, 8 * GB), True),
        (Demand(4.5), False),
        (Demand(0.0, 2.0), False),
        (Demand(0.0, 0.0, 10 * GB + 1), False),
        (Demand(4.0, 1.0), False),
        (Demand(0.0, 1.0, 10 * GB), False),
    ],
)
def test_one_node_has_to_hold_all_of_it(demand: Demand, fits: bool) -> None:
    """A replica fits if a single node has all that it reserves; what several have together does not count."""
    assert (find_misfit(demand, NODES) is None) is fits


@pytest.mark.parametrize(
    ("demand", "nodes", "misfit"),
    [
        (
            Demand(2.0, 0.5, 20 * GB),
            NODES,
            "a replica needs 2 CPUs, 0.5 GPUs, 20.00 GB of memory, and no node has that in all; the largest have: "
            "4 CPUs, 10.00 GB of memory; 2 CPUs, 1 GPUs, 8.00 GB of memory",
        ),
        (Demand(), (), "a replica needs nothing, and there are no nodes"),
        (
            Demand(9.0),
            [NodeResources(float(cpus), 0.0, 0) for cpus in (1, 2, 3, 4)],
            "a replica needs 9 CPUs, and no node has that in all; the largest have: 1 CPUs; 2 CPUs; 3 CPUs",
        ),
    ],
)
def test_misfits_in_words(demand: Demand, nodes: tuple[NodeResources, ...], misfit: str) -> None:
    """A misfit says what is needed, and what the largest nodes have, three at most."""
    assert find_misfit(demand, nodes) == misfit


@pytest.mark.parametrize(
    ("nodes", "largest"),
    [
        ([], []),
        ([(1, 0, 1), (1, 0, 1)], [(1, 0, 1)]),
        ([(1, 0, 1), (2, 0, 1), (2, 0, 3)], [(2, 0, 3)]),
        ([(8, 0, 1), (1, 1, 1), (1, 0, 9), (1, 0, 1)], [(1, 1, 1), (1, 0, 9), (8, 0, 1)]),
        ([(1, 2, 1), (1, 1, 9), (1, 1, 8), (0, 2, 1)], [(1, 2, 1), (1, 1, 9)]),
    ],
)
def test_largest_nodes(nodes: list[tuple[int, int, int]], largest: list[tuple[int, int, int]]) -> None:
    """Nodes that another one equals or exceeds in everything do not matter, in whatever order they are named."""
    for order in (nodes, nodes[::-1]):
        found = find_largest(NodeResources(*node) for node in order)
        assert found == tuple(NodeResources(*node) for node in largest)
