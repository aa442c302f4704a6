"""Versions that no node of the cluster could hold."""

from __future__ import annotations

from typing import Any

import pytest

from serving_app.core.errors import Code
from serving_app.core.events import (
    ConfigApplied,
    ModelIntent,
    NodesSeen,
    VersionsListed,
)
from serving_app.core.manager import ManagerOptions
from serving_app.core.policies import AvailabilityPreserving, Latest, ResourcePreserving
from serving_app.core.resources import Demand, NodeResources
from serving_app.core.states import PublicState, State
from tests.core.scene import Scene, serving

M = ModelIntent("m")
GB = 1_000_000_000
SMALL, LARGE = NodeResources(4.0, 0.0, 10 * GB), NodeResources(8.0, 2.0, 50 * GB)


@pytest.mark.parametrize(
    ("demand", "size", "nodes", "fits"),
    [
        (Demand(), 0, (SMALL,), True),
        (Demand(), None, (SMALL,), True),
        (Demand(), 8 * GB, (SMALL,), True),
        (Demand(), 9 * GB, (SMALL,), False),
        (Demand(), 9 * GB, (SMALL, LARGE), True),
        (Demand(), 9 * GB, None, True),
        (Demand(memory=GB), 9 * GB, (SMALL,), True),
        (Demand(memory=11 * GB), None, (SMALL,), False),
        (Demand(cpus=5.0), None, (SMALL,), False),
        (Demand(gpus=1.0), None, (SMALL,), False),
        (Demand(gpus=1.0), None, (SMALL, LARGE), True),
        (Demand(), None, (), False),
    ],
)
def test_what_fits(demand, size, nodes, fits):
    """A version is ordered only if some node could hold a replica, as far as nodes and sizes are known."""
    scene = Scene(ModelIntent("m", demand=demand))
    scene.sizes = {} if size is None else {1: size}
    if nodes is not None:
        assert scene.tell(NodesSeen(nodes)) == []
    assert scene.list("m", 1) == (["routes", "load m@1"] if fits else ["routes"])


def misfit_scene(*intents: ModelIntent, **options: Any) -> Scene:
    """A scene on a small node, where a second version of m does not fit."""
    scene = Scene(*intents, **options)
    scene.tell(NodesSeen((SMALL,)))
    scene.sizes = {1: GB, 2: 20 * GB}
    return scene


def test_misfit_is_reported_and_not_loaded():
    """What fits on no node ends with the reason and what to do; time alone changes nothing."""
    scene = misfit_scene(M)
    scene.list("m", 2)
    assert scene.statuses("m") == [
        (
            2,
            PublicState.END,
            Code.RESOURCE_EXHAUSTED,
            "Insufficient resources to load servable {name: m version: 2}: a replica needs 24.00 GB of memory, and no "
            "node has that in all; the largest have: 4 CPUs, 10.00 GB of memory. Its memory is estimated as 1.2 times "
            "the size of its files. It is loaded as soon as a node could hold it: add a larger one, or lower what the "
            "model reserves",
        )
    ]
    assert scene.state("m@2") is State.UNFIT
    assert scene.manager.next_wakeup() is None
    assert scene.wait(100_000.0) == []
    assert scene.list("m", 2) == []


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(NodesSeen((SMALL, LARGE)), id="a larger node"),
        pytest.param(ConfigApplied((ModelIntent("m", demand=Demand(memory=GB)),)), id="a smaller demand"),
        pytest.param(ConfigApplied((ModelIntent("m", memory_factor=0.5),)), id="a smaller factor"),
        pytest.param(VersionsListed("m", {2: "/models/m/2"}, sizes={2: GB}), id="smaller files"),
    ],
)
def test_misfit_is_loaded_when_it_fits(change):
    """As soon as nodes, demand or files change so that it fits, a version is loaded, and nothing is held against it."""
    scene = misfit_scene(M)
    scene.list("m", 2)
    assert scene.tell(change) == ["routes", "load m@2"]
    assert scene.version("m@2").error is None
    assert scene.actions[-1].attempt == 1


def test_misfit_holds_up_nobody():
    """A version that does not fit uses no slot, and keeps neither other versions nor other models from loading."""
    scene = misfit_scene(ModelIntent("m", Latest(2)), ModelIntent("n"), options=ManagerOptions(max_concurrent_loads=1))
    assert scene.list("m", 1, 2) == ["routes", "load m@1"]
    assert scene.loaded("m@1") == ["routes m@1"]
    scene.sizes = {}
    assert scene.list("n", 1) == ["routes m@1", "load n@1"]


@pytest.mark.parametrize("policy", [AvailabilityPreserving(), ResourcePreserving()])
def test_misfit_keeps_the_old_version(policy):
    """Nothing goes for a version that cannot come; if it fits, it comes by the rules."""
    scene = misfit_scene(ModelIntent("m", Latest(), policy))
    scene.list("m", 1)
    scene.loaded("m@1")
    assert scene.list("m", 1, 2) == ["routes m@1"]
    is_preserving = isinstance(policy, AvailabilityPreserving)
    following = ["routes m@1", "load m@2"] if is_preserving else ["routes", "unload m@1"]
    assert scene.tell(NodesSeen((LARGE,))) == following


def test_failed_version_that_fits_no_more():
    """A version that failed is set aside too when its node is gone, and goes on counting when there is one again."""
    scene = misfit_scene(M)
    scene.list("m", 1)
    scene.failed("m@1")
    scene.gone("m@1")
    assert scene.tell(NodesSeen(())) == ["routes"]
    assert scene.state("m@1") is State.UNFIT
    assert scene.manager.next_wakeup() is None
    assert scene.tell(NodesSeen((SMALL,))) == ["routes", "load m@1 again"]


def test_files_that_change_meanwhile():
    """A version that failed before it did not fit any more starts over when its files have changed."""
    scene = misfit_scene(M)
    scene.list("m", 1)
    scene.failed("m@1")
    scene.gone("m@1")
    scene.tell(NodesSeen(()))
    scene.list("m", 1, root="repaired")
    assert scene.tell(NodesSeen((SMALL,))) == ["routes", "load m@1"]


def test_unwanted_misfit_ends():
    """A version that did not fit and is not wanted any more has ended, and the reason stays."""
    scene = misfit_scene(M)
    scene.list("m", 2)
    scene.list("m")
    assert scene.state("m@2") is State.ENDED
    assert scene.statuses("m")[0][2] is Code.RESOURCE_EXHAUSTED
    assert scene.tell(NodesSeen((LARGE,))) == []


def test_what_is_loaded_is_not_weighed():
    """Nodes that go take their versions along; the manager unloads nothing for it."""
    scene = serving(1)
    assert scene.tell(NodesSeen(())) == []
