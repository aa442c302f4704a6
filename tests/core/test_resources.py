"""Whether there is a node on which a version could run."""

from __future__ import annotations

import pytest

from serving_app.core.resources import Demand, NodeResources, find_misfit

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
            "2 CPUs, 1 GPUs, 8.00 GB of memory; 4 CPUs, 10.00 GB of memory",
        ),
        (Demand(), (), "a replica needs nothing, and there are no nodes"),
        (
            Demand(9.0),
            [NodeResources(float(cpus), 0.0, 0) for cpus in (1, 2, 3, 4, 4)],
            "a replica needs 9 CPUs, and no node has that in all; the largest have: 4 CPUs; 3 CPUs; 2 CPUs",
        ),
    ],
)
def test_misfits_in_words(demand: Demand, nodes: tuple[NodeResources, ...], misfit: str) -> None:
    """A misfit says what is needed and what the largest nodes have, each kind of node once."""
    assert find_misfit(demand, nodes) == misfit
