"""The manager, rule by rule: events in, actions out."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import replace

import pytest

from serving_app.core.actions import PublishRoutes, StartLoad
from serving_app.core.door import Door
from serving_app.core.errors import Code
from serving_app.core.events import (
    ConfigApplied,
    DoorsSeen,
    ListingFailed,
    LoadAdopted,
    LoadFailed,
    LoadProgressed,
    ModelIntent,
    ReaderJoined,
    ReaderLeft,
    RoutesAcknowledged,
    ServableAdopted,
    ServableGone,
    ServableLoaded,
    ServableMoved,
    Tick,
    VersionsListed,
)
from serving_app.core.manager import Manager, ManagerOptions
from serving_app.core.placement import Placement
from serving_app.core.policies import All, Latest, ResourcePreserving, Specific
from serving_app.core.routing import RouteTable
from serving_app.core.servable import ServableId
from serving_app.core.states import Cause, IllegalMove, PublicState, State
from serving_app.core.views import Failure
from tests.core.scene import Scene, serving

M = ModelIntent("m")


def test_first_version():
    """A version that is listed gets loaded, and routed to once it is loaded."""
    scene = Scene(M)
    assert scene.list("m", 1) == ["routes", "load m@1"]
    assert scene.actions[1] == StartLoad(ServableId("m", 1), "/models/m/1", attempt=1, order=1)
    assert scene.loaded("m@1") == ["routes m@1"]
    assert scene.manager.table.models["m"].routes[1].app == "app m@1"
    assert scene.list("m", 1) == []


def test_succession_waits_for_readers():
    """The old version leaves the routes when the new one enters, and is unloaded when every reader knows."""
    scene = Scene(M)
    scene.list("m", 1)
    scene.loaded("m@1")
    scene.tell(ReaderJoined("near"), ReaderJoined("far"))
    scene.acknowledge("near")
    scene.acknowledge("far")
    assert scene.list("m", 1, 2) == ["routes m@1", "load m@2"]
    assert scene.loaded("m@2") == ["routes m@2"]
    assert scene.wait(1000.0) == []
    assert scene.tell(RoutesAcknowledged("far", scene.manager.table.revision - 1)) == []
    assert scene.acknowledge("near") == []
    assert scene.acknowledge("near") == []
    assert scene.acknowledge("far") == ["unload m@1"]
    assert scene.gone("m@1") == ["routes m@2"]
    assert scene.statuses("m") == [(2, PublicState.AVAILABLE, Code.OK, ""), (1, PublicState.END, Code.OK, "")]


@pytest.mark.parametrize(
    ("events", "actions"),
    [
        ([ReaderLeft("r")], ["unload m@1"]),
        ([ReaderLeft("stranger")], []),
        ([RoutesAcknowledged("stranger", 4)], []),
        ([RoutesAcknowledged("r", 3)], []),
        ([RoutesAcknowledged("r", 4)], ["unload m@1"]),
        ([RoutesAcknowledged("r", 5)], []),
        ([ReaderJoined("late"), RoutesAcknowledged("r", 4)], []),
        ([RoutesAcknowledged("r", 4), ReaderJoined("late")], []),
        ([ReaderJoined("late"), RoutesAcknowledged("r", 4), RoutesAcknowledged("late", 4)], ["unload m@1"]),
        ([RoutesAcknowledged("r", 4), ReaderJoined("r")], ["unload m@1"]),
    ],
)
def test_who_is_waited_for(events, actions):
    """Everyone who has joined and not left is waited for, nobody else; what cannot be true says nothing."""
    scene = serving(1)
    scene.tell(ReaderJoined("r"))
    scene.acknowledge("r")
    assert scene.list("m") == ["routes"]
    assert scene.manager.table.revision == 4
    assert scene.tell(*events) == actions


def test_without_readers():
    """With nobody to wait for, the table is published first, and the version is unloaded at once."""
    scene = serving(1)
    assert scene.list("m") == ["routes", "unload m@1"]


@pytest.mark.parametrize("intents", [(), (ModelIntent("other"),)])
def test_dropped_model(intents):
    """A model that leaves the configuration is unloaded; what became of it stays visible, its labels do not."""
    scene = serving(1, 2, labels={"stable": 1})
    assert scene.manager.table.models["m"].labels == {"stable": 1}
    assert scene.tell(ConfigApplied(intents)) == ["routes", "unload m@1", "unload m@2"]
    scene.gone("m@1")
    scene.gone("m@2")
    assert scene.manager.table.models["m"].labels == {}
    assert scene.statuses("m") == [(2, PublicState.END, Code.OK, ""), (1, PublicState.END, Code.OK, "")]
    assert scene.list("m", 1, 2) == []


def test_model_that_comes_back():
    """A model that was dropped and comes back is not loaded by what was listed before."""
    scene = serving(1)
    scene.tell(ConfigApplied(()))
    scene.gone("m@1")
    assert scene.tell(ConfigApplied((M,))) == []
    assert scene.list("m", 1) == ["routes", "load m@1"]


def test_unlisted_model():
    """Before a model is listed nothing of it is loaded or unloaded; a poll that fails changes nothing but is known."""
    scene = Scene(M)
    assert scene.tell(ListingFailed("m", Code.NOT_FOUND, "no such path")) == []
    view = scene.manager.snapshot().models["m"]
    assert (view.aspired, view.listing_failure) == (None, Failure(Code.NOT_FOUND, "no such path"))
    scene.list("m", 1)
    assert scene.manager.snapshot().models["m"].listing_failure is None
    assert scene.tell(ListingFailed("m", Code.UNAVAILABLE, "try later")) == []
    assert scene.state("m@1") is State.LOADING


def test_failed_load():
    """A failed load is cleared away and tried again, each time after twice the wait; the old version keeps serving."""
    options = ManagerOptions(retry_base_s=1.0, retry_max_s=3.0)
    scene = Scene(M, options=options)
    scene.list("m", 1)
    scene.loaded("m@1")
    scene.list("m", 1, 2)
    for attempt, wait in enumerate([1.0, 2.0, 3.0, 3.0], start=1):
        assert scene.failed("m@2", f"attempt {attempt}") == ["routes m@1", "unload m@2"]
        assert scene.gone("m@2") == []
        assert scene.manager.next_wakeup() == scene.now + wait
        assert scene.wait(wait - 0.1) == []
        assert scene.wait(0.1) == ["routes m@1", "load m@2 again"]
        assert scene.actions[-1] == StartLoad(ServableId("m", 2), "/models/m/2", attempt + 1, order=2 + 2 * attempt)
        assert scene.manager.next_wakeup() is None
    assert scene.loaded("m@2") == ["routes m@2", "unload m@1"]


def test_failed_version_is_seen_and_forgotten():
    """The error is in the status, also when the version is given up; aspired once more, it starts over."""
    scene = Scene(M)
    scene.list("m", 1)
    scene.failed("m@1")
    assert scene.statuses("m") == [(1, PublicState.END, Code.DATA_LOSS, "damaged")]
    scene.gone("m@1")
    assert scene.list("m") == []
    assert scene.state("m@1") is State.ENDED
    assert scene.manager.next_wakeup() is None
    assert scene.statuses("m") == [(1, PublicState.END, Code.DATA_LOSS, "damaged")]
    assert scene.list("m", 1) == ["routes", "load m@1"]
    assert scene.statuses("m") == [(1, PublicState.LOADING, Code.OK, "")]


def test_failed_version_that_moves():
    """A failed version that is found at another path is tried again at once."""
    scene = Scene(M)
    scene.list("m", 1)
    scene.failed("m@1")
    scene.gone("m@1")
    assert scene.list("m", 1, root="repaired") == ["routes", "load m@1"]
    assert scene.actions[-1] == StartLoad(ServableId("m", 1), "/repaired/m/1", attempt=1, order=3)


def test_jitter():
    """The wait before a retry can be varied from outside."""
    manager = Manager(ManagerOptions(retry_base_s=4.0), jitter=lambda delay: delay / 2)
    manager.handle(ConfigApplied((M,)), VersionsListed("m", {1: "/m/1"}), Tick(), now=10.0)
    manager.handle(LoadFailed(ServableId("m", 1), Code.INTERNAL, ""), ServableGone(ServableId("m", 1)), now=10.0)
    assert manager.next_wakeup() == 12.0


def test_new_versions_go_before_retries():
    """A version that failed before does not keep a lower one from its first attempt."""
    scene = Scene(ModelIntent("m", All()), options=ManagerOptions(max_concurrent_loads=1))
    assert scene.list("m", 2, 3) == ["routes", "load m@3"]
    assert scene.failed("m@3") == ["routes", "unload m@3", "load m@2"]
    assert scene.gone("m@3") == []
    assert scene.wait(1000.0) == []
    scene.list("m", 1, 2, 3)
    assert scene.loaded("m@2") == ["routes m@2", "load m@1"]
    assert scene.loaded("m@1") == ["routes m@1 m@2", "load m@3 again"]


def test_slots_go_round():
    """Loads are bounded over all models; within a model the highest version goes first, and models take turns, but for
    one that has nothing ready yet."""
    scene = Scene(*(ModelIntent(name, All()) for name in "abc"), options=ManagerOptions(max_concurrent_loads=2))
    listings = [VersionsListed(name, {1: "x", 2: "y"}) for name in "abc"]
    assert scene.tell(*listings) == ["routes", "load a@2", "load b@2"]
    assert scene.failed("b@2") == ["routes", "unload b@2", "load c@2"]
    assert scene.loaded("a@2", "c@2") == ["routes a@2 c@2", "load b@1", "load a@1"]
    assert scene.loaded("b@1") == ["routes a@2 b@1 c@2", "load c@1"]


def test_models_without_an_answer_go_first():
    """Where slots are few a model with nothing ready gets the next one, once: after a failure it takes its turn."""
    scene = Scene(*(ModelIntent(name) for name in "abc"), options=ManagerOptions(max_concurrent_loads=1))
    for name in "ab":
        scene.list(name, 1)
        scene.loaded(f"{name}@1")
    assert scene.list("a", 2) == ["routes a@1 b@1", "load a@2"]
    scene.list("b", 2)
    scene.list("c", 1)
    assert scene.failed("a@2") == ["routes a@1 b@1", "unload a@2", "load c@1"]
    assert scene.failed("c@1") == ["routes a@1 b@1", "unload c@1", "load b@2"]
    scene.gone("c@1")
    assert scene.wait(1000.0) == []
    scene.list("a", 2, 3)
    assert [line for line in scene.loaded("b@2") if line.startswith("load")] == ["load c@1 again"]


def test_load_called_off():
    """A load that nobody wants any more is called off, and what it still reports changes nothing."""
    scene = Scene(M)
    scene.list("m", 1)
    assert scene.list("m", 2) == ["routes", "unload m@1", "load m@2"]
    assert scene.loaded("m@1") == []
    assert scene.gone("m@1") == ["routes"]
    cancelled = (1, PublicState.END, Code.CANCELLED, "Loading of servable cancelled")
    assert scene.statuses("m") == [(2, PublicState.LOADING, Code.OK, ""), cancelled]


def test_load_never_begun():
    """A version that waits for a slot and is not wanted any more is forgotten."""
    scene = Scene(ModelIntent("m", All()), options=ManagerOptions(max_concurrent_loads=1))
    scene.list("m", 1, 2)
    assert scene.statuses("m")[1] == (1, PublicState.START, Code.OK, "")
    assert scene.list("m", 2) == ["routes"]
    assert scene.statuses("m") == [(2, PublicState.LOADING, Code.OK, "")]


def test_limits_can_change():
    """Limits hold from the next event on, for what has waited already too."""
    scene = Scene(ModelIntent("m", All()), ModelIntent("n"), options=ManagerOptions(max_concurrent_loads=1))
    scene.list("m", 1, 2)
    scene.list("n", 1)
    scene.manager.limit(ManagerOptions(max_concurrent_loads=3))
    assert scene.tell(ConfigApplied((ModelIntent("m", All()), ModelIntent("n")))) == ["routes", "load m@1", "load n@1"]


def test_draining_version_that_is_aspired_again():
    """As long as its unloading is not ordered, a version simply goes back into the routes."""
    scene = serving(1)
    scene.tell(ReaderJoined("r"))
    assert scene.list("m") == ["routes"]
    assert scene.list("m", 1) == ["routes m@1"]
    assert scene.acknowledge("r") == []


def test_draining_version_whose_successor_vanishes():
    """A version on its way out comes back when nothing else is left to answer."""
    scene = serving(1)
    scene.tell(ReaderJoined("r"), ConfigApplied((M,)))
    scene.list("m", 1, 2)
    assert scene.loaded("m@2") == ["routes m@2"]
    assert scene.gone("m@2") == ["routes m@1", "load m@2"]


def test_unloading_version_that_is_aspired_again():
    """Once its unloading is ordered, a version has to be gone before it is loaded again."""
    scene = serving(1)
    scene.list("m")
    assert scene.list("m", 1) == []
    assert scene.loaded("m@1") == []
    assert scene.gone("m@1") == ["routes", "load m@1"]


def test_version_that_vanishes():
    """A version that is gone without being asked leaves the routes at once and is loaded again."""
    scene = serving(1)
    scene.tell(ReaderJoined("r"))
    assert scene.gone("m@1") == ["routes", "load m@1"]
    assert scene.gone("m@1") == []


def test_load_called_off_while_an_old_table_names_it():
    """A reader may still route to an earlier life of a version; its next life is not pulled from under that reader."""
    scene = serving(1)
    scene.tell(ReaderJoined("r"))
    scene.gone("m@1")
    assert scene.list("m") == []
    assert scene.acknowledge("r") == ["routes", "unload m@1"]


def test_resource_preserving():
    """Unload first, load after."""
    scene = serving(1, aspired_policy=ResourcePreserving())
    scene.tell(ConfigApplied((ModelIntent("m", Latest(), ResourcePreserving()),)))
    assert scene.list("m", 1, 2) == ["routes", "unload m@1"]
    assert scene.gone("m@1") == ["routes", "load m@2"]


def test_restart_adopts():
    """A manager that starts anew goes on with what it is told it has, and loads nothing a second time."""
    scene = Scene(revision=41)
    for event in (
        ConfigApplied((M,)),
        ReaderJoined("r"),
        ServableAdopted(ServableId("m", 1), "app", {}),
        LoadAdopted(ServableId("m", 2)),
    ):
        assert scene.tell(event) == []
    assert scene.tell(Tick()) == ["routes m@1"]
    assert scene.manager.table.revision == 42
    assert scene.list("m", 1, 2) == []
    assert scene.loaded("m@2") == ["routes m@2"]
    assert scene.acknowledge("r") == ["unload m@1"]


def test_restart_drops_what_is_not_configured():
    """What an earlier manager left and nobody wants is unloaded, once the readers of that time know."""
    scene = Scene(revision=41)
    scene.tell(ConfigApplied(()), ReaderJoined("r"), ServableAdopted(ServableId("m", 1), "app", {}))
    assert scene.tell(Tick()) == ["routes"]
    assert scene.tell(RoutesAcknowledged("r", 41)) == []
    assert scene.tell(RoutesAcknowledged("r", 42)) == ["unload m@1"]


def test_restart_knows_not_what_earlier_tables_name():
    """While a reader has a table of an earlier manager, no load is called off: that table may name the version."""
    scene = Scene(revision=41)
    scene.tell(ConfigApplied((M,)), ReaderJoined("r"), Tick())
    scene.list("m", 1)
    assert scene.list("m") == []
    assert scene.tell(RoutesAcknowledged("r", 41)) == []
    assert scene.tell(RoutesAcknowledged("r", 42)) == ["routes", "unload m@1"]


def test_restart_with_failed_load():
    """A load that failed meanwhile is cleared away by the first tick, not before."""
    scene = Scene()
    assert scene.tell(ConfigApplied((M,)), LoadAdopted(ServableId("m", 1))) == []
    assert scene.failed("m@1") == []
    assert scene.tell(Tick()) == ["routes", "unload m@1"]


def test_first_table_is_always_published():
    """Even an empty table is news to readers who hold one of an earlier manager."""
    scene = Scene(revision=7)
    assert scene.tell(Tick()) == ["routes"]
    assert scene.actions == [PublishRoutes(RouteTable(8, {}))]
    assert scene.tell(Tick()) == []


@pytest.mark.parametrize(
    "event",
    [
        ServableLoaded(ServableId("m", 9), "app", {}),
        LoadFailed(ServableId("m", 9), Code.INTERNAL, ""),
        ServableGone(ServableId("m", 9)),
        ServableGone(ServableId("none", 1)),
        VersionsListed("none", {1: "/none/1"}),
        ListingFailed("none", Code.NOT_FOUND, ""),
        ReaderLeft("nobody"),
    ],
)
def test_reports_about_strangers(event):
    """A report about something that nobody knows changes nothing."""
    scene = serving(1)
    before = scene.manager.snapshot()
    assert scene.tell(event) == []
    assert scene.manager.snapshot() == before


def test_unchanged_models_are_shared():
    """A table that changes for one model has the other models' entries from the table before."""
    scene = Scene(ModelIntent("a"), ModelIntent("b"))
    scene.list("a", 1)
    before: Mapping[str, object] = scene.manager.table.models
    scene.list("b", 1)
    after = scene.manager.table.models
    assert after["a"] is before["a"]
    assert after["b"] is not before["b"]
    assert "a" in before, "a table that is published never changes"


def test_memory_of_ended_versions():
    """Of a model, the versions that ended last stay visible; of dropped models, those that were dropped last."""
    options = ManagerOptions(ended_versions_kept=2, dropped_models_kept=1)
    scene = Scene(M, options=options)
    for number in (4, 3, 2, 1):
        scene.list("m", number)
        scene.now += 1.0
        scene.failed(f"m@{number}")
        scene.gone(f"m@{number}")
        scene.list("m")
    assert [status[0] for status in scene.statuses("m")] == [2, 1]
    scene.tell(ConfigApplied((ModelIntent("n"),)))
    scene.list("n", 1)
    scene.tell(ConfigApplied(()))
    scene.gone("n@1")
    assert list(scene.manager.table.models) == ["n"]


def test_dropped_model_that_comes_back_is_not_forgotten():
    """A dropped model that comes back while another one is dropped is not forgotten in its stead."""
    scene = Scene(ModelIntent("n"), M, options=ManagerOptions(dropped_models_kept=1))
    scene.list("n", 1)
    scene.list("m", 1)
    scene.tell(ConfigApplied((ModelIntent("n"),)))
    scene.gone("m@1")
    scene.list("n")
    scene.gone("n@1")
    assert scene.tell(ConfigApplied((M,))) == []
    assert set(scene.manager.snapshot().models) == {"m", "n"}


def test_late_reports_of_earlier_orders():
    """A report that tells which order it is about cannot be mistaken for news of a newer one."""
    scene = Scene(M)
    which = ServableId("m", 1)
    scene.list("m", 1)
    load = scene.actions[-1].order
    scene.list("m")
    unload = scene.actions[-1].order
    assert (load, unload) == (1, 2)
    assert scene.tell(ServableGone(which, load)) == [], "it vanished before it was unloaded; that answer is to come"
    assert scene.tell(ServableGone(which, unload)) == ["routes"]
    assert scene.list("m", 1) == ["routes", "load m@1"]
    for late in (
        ServableLoaded(which, "the app of the first load", {}, load),
        LoadFailed(which, Code.INTERNAL, "", load),
        ServableGone(which, unload),
    ):
        assert scene.tell(late) == []
    assert scene.tell(ServableLoaded(which, "app", {}, order=3)) == ["routes m@1"]


def test_a_version_that_moved_is_routed_to_where_it_lives_now():
    """The table changes with the move, and with nothing that was told of the version before."""
    scene = serving(1)
    one = ServableId("m", 1)
    assert scene.tell(ServableMoved(one, "gateways", {}, Placement.COLOCATED, 1)) == ["routes m@1"]
    assert scene.tell(ServableMoved(one, "gateways", {}, Placement.COLOCATED, 1)) == []
    assert scene.tell(ServableLoaded(one, "app m@1", {}, 1)) == []
    assert scene.tell(ServableMoved(one, "of an earlier life", {}, Placement.DEDICATED, 0)) == []
    route = scene.manager.table.models["m"].routes[1]
    assert (route.app, route.placement) == ("gateways", Placement.COLOCATED)
    assert scene.version("m@1").placement is Placement.COLOCATED
    scene.list("m")
    scene.gone("m@1")
    assert scene.version("m@1").app is scene.version("m@1").placement is None


def test_a_move_of_what_is_not_loaded_says_nothing():
    """Who has moved a version that fails or goes meanwhile brings it back by no report."""
    scene = Scene(M)
    scene.list("m", 1)
    assert scene.tell(ServableMoved(ServableId("m", 1), "gateways", {}, Placement.COLOCATED)) == []
    assert scene.state("m@1") is State.LOADING


def test_view_in_words():
    """A version and a manager can be read at a glance."""
    scene = Scene(M)
    scene.list("m", 1)
    scene.now = 3.0
    scene.failed("m@1")
    (version,) = scene.manager.snapshot().models["m"].versions
    assert str(version) == "m@1 clearing since 3.000, after 1 failures, last DATA_LOSS: damaged"
    assert repr(scene.manager) == "<Manager revision 3, 1 models: 1 clearing; 0 readers, 0 models waiting to load>"


def test_views_travel():
    """What the manager knows can be sent to whoever asks for it."""
    view = serving(1).manager.snapshot()
    assert pickle.loads(pickle.dumps(view)) == view


def test_slow_retries():
    """After the quick retries a version is tried at the slow pace, for as long as it is wanted."""
    options = ManagerOptions(retry_base_s=1.0, retry_max_s=60.0, quick_retries=2, slow_retry_s=300.0)
    scene = Scene(M, options=options)
    scene.list("m", 1)
    for attempt, wait in enumerate([1.0, 2.0, 300.0, 300.0, 300.0], start=2):
        scene.failed("m@1")
        scene.gone("m@1")
        assert scene.wait(wait - 0.5) == []
        assert scene.wait(0.5) == ["routes", "load m@1 again"]
        assert scene.actions[-1].attempt == attempt


def test_reason_stays_visible():
    """While a version is tried again its last failure is still shown to people; clients see that it loads."""
    scene = Scene(M)
    scene.list("m", 1)
    scene.failed("m@1")
    scene.gone("m@1")
    scene.wait(1.0)
    assert scene.version("m@1").error == Failure(Code.DATA_LOSS, "damaged")
    assert scene.statuses("m") == [(1, PublicState.LOADING, Code.OK, "")]
    scene.loaded("m@1")
    assert (scene.version("m@1").error, scene.version("m@1").failures) == (None, 0)


@pytest.mark.parametrize(
    ("first", "then", "is_tried"),
    [
        pytest.param(5, 6, True, id="changed"),
        pytest.param(5, 5, False, id="the same"),
        pytest.param(None, 5, False, id="known only now"),
        pytest.param(5, None, False, id="not told again"),
    ],
)
@pytest.mark.parametrize("when", ["while loading", "while failing", "while it waits for its retry"])
def test_failed_version_whose_files_change(first, then, is_tried, when):
    """A version whose files have another size than at its last attempt is tried again at once, as if for the first
    time, whenever they changed."""
    scene = Scene(M, options=ManagerOptions(quick_retries=0))
    scene.sizes = {} if first is None else {1: first}
    scene.list("m", 1)
    for when_now in ("while loading", "while failing", "while it waits for its retry"):
        if when == when_now:
            scene.sizes = {} if then is None else {1: then}
            scene.list("m", 1)
        if when_now == "while loading":
            scene.failed("m@1")
        elif when_now == "while failing":
            scene.gone("m@1")
    assert scene.state("m@1") is (State.LOADING if is_tried else State.FAILED)
    assert scene.version("m@1").failures == (0 if is_tried else 1)
    assert scene.list("m", 1) == []


def test_size_stays_known_while_the_version_stays():
    """A listing that does not tell a size does not make it forgotten; one that finds the version elsewhere does."""
    scene = serving(1)
    for sizes, root, size in [({1: 5}, "models", 5), ({}, "models", 5), ({}, "other", None), ({1: 6}, "other", 6)]:
        scene.sizes = sizes
        assert scene.list("m", 1, root=root) == []
        assert scene.version("m@1").size == size


@pytest.mark.parametrize("path", ["/models/m/1", None])
def test_adopted_version_keeps_its_path(path):
    """What was adopted is known to be where it was, so a failure of it waits for its retry as any other; so it does
    when nobody knows."""
    scene = Scene()
    which = ServableId("m", 1)
    scene.tell(ConfigApplied((M,)), LoadAdopted(which, path), Tick())
    assert scene.version("m@1").path == path
    scene.list("m", 1)
    scene.failed("m@1")
    assert scene.gone("m@1") == []
    assert scene.list("m", 1, root="repaired") == ["routes", "load m@1"]


def test_progress():
    """How far a load is can be seen while it is under way, and news of an older order says nothing."""
    scene = Scene(M)
    scene.list("m", 1)
    which = ServableId("m", 1)
    for order, seen in [(None, "from None"), (1, "from 1"), (0, "from 1"), (2, "from 1")]:
        assert scene.tell(LoadProgressed(which, f"from {order}", order)) == []
        assert scene.version("m@1").progress == seen
    assert str(scene.version("m@1")) == "m@1 loading since 0.000, from 1"
    scene.loaded("m@1")
    scene.tell(LoadProgressed(which, "late"), LoadProgressed(ServableId("none", 1), "of a stranger"))
    assert scene.version("m@1").progress is None


# Versions that are not finished.


def test_waiting_version():
    """A version that is still being written is shown and not loaded; the older one goes on, until it is finished."""
    scene = serving(1)
    scene.tell(ConfigApplied((M,)))
    assert scene.tell(VersionsListed("m", {1: "/models/m/1"}, waiting={2: "no saved_model.pb"})) == []
    view = scene.manager.snapshot().models["m"]
    assert (view.waiting, view.aspired) == ({2: "no saved_model.pb"}, {1})
    assert scene.list("m", 1, 2) == ["routes m@1", "load m@2"]
    assert scene.manager.snapshot().models["m"].waiting == {}


def test_loaded_version_whose_files_look_unfinished():
    """Someone who writes into the files of a version that is served does not take it out of service; gone, it has to
    wait until it is finished."""
    scene = serving(1)
    unfinished = VersionsListed("m", {}, waiting={1: "its files change"})
    assert scene.tell(unfinished) == []
    assert scene.gone("m@1") == ["routes"]
    assert scene.tell(unfinished) == []
    assert scene.list("m", 1) == ["routes", "load m@1"]


def test_the_last_version_serves_until_an_unfinished_one_is_ready():
    """Whoever deletes a version while its successor is still being written finds it serving until that one does."""
    scene = Scene(M)
    scene.list("m", 9)
    scene.loaded("m@9")
    assert scene.tell(VersionsListed("m", {}, waiting={8: "its files are young"})) == []
    assert scene.list("m", 8) == ["routes m@9", "load m@8"]
    assert scene.loaded("m@8") == ["routes m@8", "unload m@9"]


def test_load_of_files_that_look_unfinished_again():
    """A load that was begun goes on: a restarted shell calls young files unfinished until it has watched them, which
    is no news to anybody."""
    scene = Scene(M)
    scene.list("m", 1)
    scene.manager.take_happenings()
    assert scene.tell(VersionsListed("m", {}, waiting={1: "its files are young"})) == []
    assert scene.manager.snapshot().models["m"].waiting == {}
    assert scene.manager.take_happenings() == []
    assert scene.loaded("m@1") == ["routes m@1"]


@pytest.mark.parametrize(
    ("policy", "listing", "warnings"),
    [
        (Specific((1, 7)), VersionsListed("m", {1: "x"}), [7]),
        (Specific((1, 7)), VersionsListed("m", {1: "x"}, waiting={7: "no saved_model.pb"}), []),
        (Specific((8, 7, 7)), VersionsListed("m", {1: "x"}), [8, 7]),
        (Specific(()), VersionsListed("m", {1: "x"}), []),
        (Latest(3), VersionsListed("m", {1: "x"}), []),
    ],
)

def test_versions_that_are_missed(policy, listing, warnings):
    """A version that is asked for by number, and not under the base path, is warned of, beside the store's warnings."""
    scene = Scene(ModelIntent("m", policy))
    assert scene.manager.snapshot().models["m"].warnings == ()
    scene.tell(replace(listing, warnings=("odd name",)))
    missed = tuple(
        f"version {number} is asked for by the version policy and is not under the base path; bring it, or take it out "
        "of the policy"
        for number in warnings
    )
    assert scene.manager.snapshot().models["m"].warnings == ("odd name", *missed)


def test_illegal_move_tells_the_story():
    """A move that the table does not know is an error that says what the version has gone through."""
    scene = serving(1)
    manager = scene.manager
    with pytest.raises(IllegalMove, match=r"m@1 is ready and cannot be 'unload ordered'(?s:.*)0.000 ready, answered"):
        manager._move(manager._models["m"].versions[1], Cause.UNLOAD, 0.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_concurrent_loads": 0}, "max_concurrent_loads is 0; it must be at least 1"),
        ({"story_length": 0}, "story_length is 0; it must be at least 1"),
        ({"ended_versions_kept": -1}, "ended_versions_kept is -1; it must be 0 or more"),
        ({"quick_retries": -1}, "quick_retries is -1; it must be 0 or more"),
        ({"slow_retry_s": 0.0}, "slow_retry_s is 0.0; it must be above 0"),
        ({"dropped_models_kept": -1}, "dropped_models_kept is -1; it must be 0 or more"),
        ({"retry_base_s": 0.0}, "retry_base_s is 0.0 and retry_max_s is 60.0; both must be above 0"),
        ({"retry_base_s": 61.0}, "the base not above the maximum"),
    ],
)
def test_options_are_checked(options, message):
    """Limits that make no sense are refused by name."""
    with pytest.raises(ValueError, match=message):
        ManagerOptions(**options)


def test_tables_tell_the_doors_of_what_they_name():
    """Doors that are known before their version is ready come with its first table; each change is a table of its own
    only for versions that are routed to; and doors go with their version."""
    scene = Scene(M)
    scene.list("m", 1)
    doors = tuple(Door("app m@1", name, "node", None, "127.0.0.1", 1, b"secret") for name in "ab")
    assert scene.tell(DoorsSeen("app m@1", doors[:1])) == []
    assert scene.loaded("m@1") == ["routes m@1"]
    assert scene.manager.table.doors == {"app m@1": doors[:1]}
    assert scene.tell(DoorsSeen("app m@1", doors), DoorsSeen("another", doors)) == ["routes m@1"]
    assert scene.manager.table.doors == {"app m@1": doors}
    assert scene.tell(DoorsSeen("app m@1", doors)) == []
    assert scene.tell(DoorsSeen("app m@1", ())) == ["routes m@1"]
    assert scene.manager.table.doors == {}
    scene.tell(DoorsSeen("app m@1", doors))
    scene.list("m", 1, 2)
    scene.loaded("m@2")
    assert scene.manager.table.doors == {}
