"""What people are told of what the manager sees and does."""

from __future__ import annotations

from dataclasses import replace

import pytest

from serving_app.core.errors import Code
from serving_app.core.events import (
    ConfigApplied,
    ListingFailed,
    LoadAdopted,
    ModelIntent,
    NodesSeen,
    ReaderJoined,
    ServableAdopted,
    ServableGone,
    Tick,
    VersionsListed,
)
from serving_app.core.policies import All, Latest, ResourcePreserving
from serving_app.core.resources import Demand, NodeResources
from serving_app.core.servable import ServableId
from serving_app.core.states import State
from tests.core.scene import Scene, serving

M = ModelIntent("m")
GB = 1_000_000_000
SMALL, LARGE = NodeResources(4.0, 0.0, 10 * GB), NodeResources(8.0, 2.0, 50 * GB)


def told(scene: Scene) -> list[str]:
    return [str(happening) for happening in scene.manager.take_happenings()]


def test_a_life_is_told():
    """Every step of a version is one sentence, told once, however often it is reported."""
    scene = Scene(M)
    assert told(scene) == ["m: configured, to serve the latest version"]
    scene.list("m", 1)
    scene.list("m", 1)
    assert told(scene) == ["m@1: wanted, and found at /models/m/1", "m@1: loading from /models/m/1 (attempt 1)"]
    scene.failed("m@1", "two\n  lines")
    scene.failed("m@1", "two\n  lines")
    scene.gone("m@1")
    scene.wait(1.0)
    assert told(scene) == [
        "m@1: failed to load (DATA_LOSS: two lines); next attempt in 1.0 s if it is still wanted",
        "m@1: what was left of the failed load is removed",
        "m@1: loading from /models/m/1 (attempt 2)",
    ]
    scene.loaded("m@1")
    scene.loaded("m@1")
    assert told(scene) == ["m@1: ready, answered for by app m@1"]
    scene.tell(ReaderJoined("r"))
    scene.list("m")
    scene.list("m", 1)
    scene.list("m")
    scene.acknowledge("r")
    scene.gone("m@1")
    assert told(scene) == [
        "m@1: takes no new requests; unloaded when no request is on its way to it any more",
        "m@1: wanted again before it was unloaded; takes requests again",
        "m@1: takes no new requests; unloaded when no request is on its way to it any more",
        "m@1: unloading",
        "m@1: unloaded",
    ]
    scene.list("m", 1)
    scene.list("m")
    scene.gone("m@1")
    assert told(scene) == [
        "m@1: wanted again, and found at /models/m/1",
        "m@1: loading from /models/m/1 (attempt 1)",
        "m@1: load called off, because it is not wanted any more",
        "m@1: unloaded",
    ]


def test_misfits_are_told():
    """That a version does not fit is told once, with the reason, and that it does fit now."""
    scene = Scene(M)
    scene.tell(NodesSeen((SMALL,)))
    scene.sizes = {2: 20 * GB}
    told(scene)
    scene.list("m", 2)
    scene.tell(NodesSeen((SMALL, NodeResources(1.0, 0.0, GB))))
    wanted, misfit = told(scene)
    assert wanted == "m@2: wanted, and found at /models/m/2"
    assert misfit.startswith("m@2: not loaded (RESOURCE_EXHAUSTED: Insufficient resources to load servable ")
    scene.tell(NodesSeen((LARGE,)))
    assert told(scene) == [
        "m@2: there is a node now that could hold it; to be loaded",
        "m@2: loading from /models/m/2 (attempt 1)",
    ]


def test_changed_files_are_told():
    """Why a failed version is tried before its time is told."""
    scene = Scene(M)
    scene.list("m", 1)
    scene.failed("m@1")
    scene.gone("m@1")
    told(scene)
    scene.list("m", 1, root="repaired")
    assert told(scene) == [
        "m@1: its files have changed; tried again at once, from /repaired/m/1",
        "m@1: loading from /repaired/m/1 (attempt 1)",
    ]


def test_adoption_is_told():
    """A manager that starts anew tells what it takes over."""
    scene = Scene()
    scene.tell(ConfigApplied((M,)), ServableAdopted(ServableId("m", 1), "app", {}), LoadAdopted(ServableId("m", 2)))
    assert told(scene) == [
        "m: configured, to serve the latest version",
        "m@1: found ready and taken over, answered for by app",
        "m@2: found loading and taken over",
    ]
    scene.tell(Tick(), ServableGone(ServableId("m", 1)))
    assert told(scene) == ["m@1: gone without having been unloaded"]


def test_failing_listings_are_told_once():
    """That a base path cannot be listed is told when it begins, and when it ends or fails otherwise."""
    scene = serving(1)
    told(scene)
    for code, message in [(Code.NOT_FOUND, "request 1"), (Code.NOT_FOUND, "request 2"), (Code.UNAVAILABLE, "gone")]:
        scene.tell(ListingFailed("m", code, message))
    scene.list("m", 1)
    scene.list("m", 1)
    assert told(scene) == [
        "m: its base path cannot be listed (NOT_FOUND: request 1); what is served goes on, new versions wait",
        "m: its base path cannot be listed (UNAVAILABLE: gone); what is served goes on, new versions wait",
        "m: its base path can be listed again",
    ]


def test_unfinished_versions_are_told():
    """That a version is not finished is told once, though what it lacks may change, and what became of it."""
    scene = serving(1)
    told(scene)
    found = {1: "/models/m/1"}
    scene.tell(VersionsListed("m", found, waiting={2: "no saved_model.pb", 3: "no saved_model.pb"}))
    scene.tell(VersionsListed("m", found, waiting={2: "its files change", 3: "no saved_model.pb"}))
    scene.tell(VersionsListed("m", found | {2: "/models/m/2"}, waiting={1: "its files change"}))
    assert told(scene) == [
        "m@2: found, and not finished yet: no saved_model.pb",
        "m@3: found, and not finished yet: no saved_model.pb",
        "m@1: its files look unfinished; what is loaded stays: its files change",
        "m@2: finished",
        "m@3: gone before it was finished",
    ]


def test_warnings_are_told_once():
    """A warning is told when it is new, not at every poll."""
    scene = serving(1)
    told(scene)
    for warnings in [("a",), ("a",), ("a", "b"), (), ("a",)]:
        scene.tell(VersionsListed("m", {1: "/models/m/1"}, warnings=warnings))
    assert told(scene) == ["m: warning: a", "m: warning: b", "m: warning: a"]


@pytest.mark.parametrize(
    ("edit", "sentences"),
    [
        ({}, []),
        ({"version_policy": All()}, ["m: is to serve all versions now, was version 1"]),
        ({"version_policy": Latest(2)}, ["m: is to serve the latest 2 versions now, was version 1"]),
        ({"aspired_policy": ResourcePreserving()}, ["m: new versions are loaded after the old ones go from now on"]),
        ({"demand": Demand(2.0, 1.0, GB)}, [
            "m: each replica is to reserve 2 CPUs, 1 GPUs, 1.00 GB of memory now, was nothing"]),
        ({"memory_factor": 2.0}, [
            "m: memory is estimated as 2 times the size of the files now, was 1.2 times"]),
        ({"labels": {}}, ["m@1: label stable is taken from this version"]),
        ({"labels": {"stable": 1, "also": 1}}, [
            "m@1: label also is given to this version", "m@1: label also is active: requests by it get this version"]),
        ({"labels": {"stable": 7}}, ["m@7: label stable moves to this version from version 1"]),
    ],
)  # fmt: skip
def test_edits_are_told(edit, sentences):
    """What an edit of the configuration changes is told, setting by setting."""
    scene = serving(1, labels={"stable": 1})
    told(scene)
    intent = scene.manager._models["m"].intent
    for _ in range(2):
        scene.tell(ConfigApplied((replace(intent, **edit),)))
    assert told(scene) == sentences


def test_labels_are_told():
    """That a label leads somewhere, and that it does not any more, is told when it becomes so."""
    scene = Scene(ModelIntent("m", labels={"stable": 1}))
    assert told(scene)[1:] == ["m@1: label stable is given to this version"]
    scene.list("m", 1)
    scene.loaded("m@1")
    assert told(scene)[-1] == "m@1: label stable is active: requests by it get this version"
    scene.tell(ReaderJoined("r"))
    scene.list("m", 2)
    scene.loaded("m@2")
    assert scene.state("m@1") is State.DRAINING
    assert (
        "m@1: label stable leads to this version, which does not answer any more; requests by it get NOT_FOUND until "
        "the version is ready again or the label moves"
    ) in told(scene)
    scene.tell(ConfigApplied(()))
    assert told(scene)[:2] == [
        "m: taken out of the configuration; its versions go",
        "m@1: label stable is taken from this version",
    ]
    assert scene.manager.snapshot().models["m"].labels == {}
