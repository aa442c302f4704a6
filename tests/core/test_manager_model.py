"""The manager against a world that does what it likes.

Stores whose versions come and go, are still being written or change their size, loads that succeed, fail or take their
time, readers that join, lag and leave, servables that vanish, nodes that come and go, configurations that change,
reports that are late or repeated, and controllers that start again and find what is running. What must always hold is
asserted at every action and after every step; at the end of every history the world calms down, and everything has to
come right.

Two drivers make up the histories. Hypothesis searches, and cuts a history that breaks a claim down to the steps that
matter. A plain random walk is some twenty times faster, and so gets into corners that need many steps.

Both make the same histories in every run, so that a change is judged by its own merits. To look for new ones, for
minutes: HYPOTHESIS_PROFILE=deep pytest tests/core/test_manager_model.py
"""

from __future__ import annotations

import os
import random
import sys
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from serving_app.core.actions import Action, PublishRoutes, StartLoad, StartUnload
from serving_app.core.errors import Code
from serving_app.core.events import (
    ConfigApplied,
    Event,
    ListingFailed,
    LoadAdopted,
    LoadFailed,
    LoadProgressed,
    ModelIntent,
    NodesSeen,
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
from serving_app.core.history import Happening, History
from serving_app.core.manager import Manager, ManagerOptions
from serving_app.core.placement import Placement
from serving_app.core.policies import (
    All,
    AvailabilityPreserving,
    Latest,
    ResourcePreserving,
    Specific,
    aspired_versions,
)
from serving_app.core.resources import Demand, NodeResources
from serving_app.core.routing import RouteTable
from serving_app.core.servable import ServableId
from serving_app.core.states import PublicState, State, public_state
from serving_app.core.traffic import Rule, Traffic
from serving_app.core.views import VersionView

MODELS = ("a", "b", "c")
NUMBERS = (1, 2, 3)
OPTIONS = ManagerOptions(
    max_concurrent_loads=2,
    retry_base_s=1.0,
    retry_max_s=8.0,
    quick_retries=2,
    slow_retry_s=20.0,
    story_length=6,
    ended_versions_kept=2,
    dropped_models_kept=1,
)
CALM_ROUNDS = 40

SERVABLES = [ServableId(name, number) for number in NUMBERS for name in MODELS]
CONFIGS = [
    (ModelIntent("a"), ModelIntent("b")),
    (ModelIntent("a", Latest(2)), ModelIntent("c", All(), labels={"stable": 1})),
    (ModelIntent("a", All()), ModelIntent("b", All()), ModelIntent("c", All())),
    (ModelIntent("a", Specific((1, 3)), labels={"stable": 1, "canary": 3}),),
    (ModelIntent("a", Latest(0), ResourcePreserving()), ModelIntent("b", All(), ResourcePreserving())),
    (ModelIntent("b", Specific((2,))), ModelIntent("c", Specific(()))),
    (ModelIntent("a", Latest(2), demand=Demand(gpus=1.0)), ModelIntent("b", demand=Demand(memory=40))),
    (),
]
EDITS: list[dict[str, Any]] = [
    {"version_policy": Latest(2)},
    {"version_policy": All()},
    {"version_policy": Specific((1, 2))},
    {"aspired_policy": AvailabilityPreserving()},
    {"aspired_policy": ResourcePreserving()},
    {"labels": {}},
    {"labels": {"stable": 1}},
    {"labels": {"stable": 2, "canary": 3}},
    {"demand": Demand()},
    {"demand": Demand(memory=40)},
    {"demand": Demand(gpus=1.0)},
    {"memory_factor": 3.0},
    {"traffic": {}},
    {"traffic": {"": Traffic({1: 90.0, 3: 10.0})}},
    {"traffic": {"stable": Traffic({2: 100.0, 3: 0.0}, "user", (Rule("team", 1, frozenset({"ads"})),))}},
]
SIZES = (5, 20)
SMALL, LARGE, WITH_GPU = NodeResources(4.0, 0.0, 16), NodeResources(4.0, 0.0, 100), NodeResources(4.0, 1.0, 30)
CLUSTERS = [(LARGE,), (SMALL, LARGE, WITH_GPU), (SMALL,), (SMALL, WITH_GPU), (LARGE, WITH_GPU), ()]
DEEP = os.environ.get("HYPOTHESIS_PROFILE") == "deep"


def wanted_of(intent: ModelIntent, found: Iterable[int]) -> frozenset[int]:
    """The versions that the policy is for, or that requests are shared among, of those found."""
    found = frozenset(found)
    shared = {number for traffic in intent.traffic.values() for number in traffic.versions}
    return aspired_versions(intent.version_policy, found) | (found & shared)


Step = Callable[["World", int], None]
STEPS: list[tuple[Step, Callable[[World], bool]]] = []


def step(when: Callable[[World], bool] = lambda world: True, weight: int = 1) -> Callable[[Step], Step]:
    """Something that the world can do, for both drivers: `choice` picks among what is possible."""

    def register(function: Step) -> Step:
        STEPS.extend([(function, when)] * weight)
        return precondition(when)(rule(choice=st.integers(0, 255))(function))

    return register


class Life(Enum):
    """What the world knows of a servable; one that it does not know is absent."""

    LOADING = "loading"
    SERVING = "serving"
    REMAINS = "what a failed load left"
    REMOVING = "being removed"


@dataclass
class Thing:
    """A servable as it is in the world."""

    life: Life
    app: str
    path: str
    order: int  # the newest one about it that was carried out; 0 if an earlier manager gave it


@dataclass
class Reader:
    """Someone who routes. Requests may be under way by each of `tables`; the last one is for new requests."""

    tables: list[RouteTable]
    acknowledgements: deque[int] = field(default_factory=deque)


def routed(table: RouteTable) -> dict[ServableId, str]:
    """What a table names, and the application that it names for it."""
    return {route.servable: route.app for model in table.models.values() for route in model.routes.values()}


class World(RuleBasedStateMachine):
    """The world, the shell's bookkeeping, and the claims about the manager."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.births = 0
        self.stores: dict[str, dict[int, str] | None] = {name: {} for name in MODELS}  # None: the path is missing
        self.unfinished: dict[str, set[int]] = {name: set() for name in MODELS}
        self.sizes: dict[ServableId, int] = {}
        self.nodes: tuple[NodeResources, ...] = CLUSTERS[0]
        self.seen_nodes: tuple[NodeResources, ...] | None = None  # None: this controller has not looked yet
        self.config: dict[str, ModelIntent] = {}
        self.listed: dict[str, VersionsListed] = {}  # the last good listing since the model is configured
        self.bad: set[ServableId] = set()
        self.things: dict[ServableId, Thing] = {}
        self.waiting: dict[ServableId, deque[Action]] = defaultdict(deque)  # orders about one version go one by one
        self.mail: dict[ServableId, deque[Event]] = defaultdict(deque)  # reports on their way
        self.delivered: list[Event] = []  # reports that may come again
        self.open_loads: dict[ServableId, int] = {}  # not answered yet
        self.open_unloads: dict[ServableId, int] = {}
        self.readers: dict[str, Reader] = {}
        self.departed: list[str] = []  # gone, and the shell has not noticed
        self.published = RouteTable()
        self.manager = Manager(OPTIONS)
        self.is_first_table = True
        self.known: dict[ServableId, VersionView] = {}  # as of the last look
        self.label_news: dict[tuple[str, str], Happening] = {}  # the last of each label
        self.history = History(per_model=10, in_all=25)
        # Begin where something is at stake: a model that is served, and someone who routes to it.
        self.stores["a"] = {1: "/models/a/1"}
        self.handle(ConfigApplied((ModelIntent("a"), ModelIntent("b"))), Tick())
        self.join()
        self.calm_down()

    # The shell.

    def handle(self, *events: Event) -> None:
        """Hand events over and perform what comes back; each claim about an action is checked when it is its turn."""
        for event in events:
            self.note(event)
        for action in self.manager.handle(*events, now=self.now):
            match action:
                case PublishRoutes():
                    self.check_publication(action.table)
                    self.published = action.table
                case StartLoad():
                    self.check_load(action)
                    self.open_loads[action.servable] = action.order
                    self.order(action)
                case StartUnload():
                    self.check_unload(action)
                    self.open_loads.pop(action.servable, None)
                    self.open_unloads[action.servable] = action.order
                    self.order(action)
        assert self.manager.table is self.published
        self.check_happenings(self.manager.take_happenings())
        assert self.manager.handle(Tick(), now=self.now) == [], "a second look at the same facts found more to do"
        assert self.manager.take_happenings() == [], "a second look at the same facts found more to tell"

    def note(self, event: Event) -> None:
        match event:
            case ConfigApplied():
                self.config = {intent.name: intent for intent in event.models}
                self.listed = {name: listing for name, listing in self.listed.items() if name in self.config}
            case VersionsListed() if event.model in self.config:
                self.listed[event.model] = event
            case NodesSeen(nodes):
                self.seen_nodes = nodes
            case ServableLoaded(servable, order=order) | LoadFailed(servable, order=order):
                if self.open_loads.get(servable) == order:
                    del self.open_loads[servable]
            case ServableGone(servable, order=order):
                if self.open_unloads.get(servable) == order:
                    del self.open_unloads[servable]
            case _:
                pass

    def order(self, action: StartLoad | StartUnload) -> None:
        self.waiting[action.servable].append(action)
        self.work(action.servable)

    def work(self, servable: ServableId) -> None:
        """Begin what is ordered, but nothing while a removal is under way."""
        while self.waiting[servable] and not self.is_in(servable, Life.REMOVING):
            action = self.waiting[servable].popleft()
            thing = self.things.get(servable)
            if isinstance(action, StartLoad):
                assert thing is None, f"{servable} was to be loaded over {thing}"
                self.births += 1
                app = f"{servable}#{self.births}"
                self.things[servable] = Thing(Life.LOADING, app, action.path, action.order)
            elif thing is None:
                self.mail[servable].append(ServableGone(servable, action.order))
            else:
                thing.life = Life.REMOVING
                thing.order = action.order

    def is_in(self, servable: ServableId, life: Life) -> bool:
        thing = self.things.get(servable)
        return thing is not None and thing.life is life

    # Claims about actions.

    def check_publication(self, table: RouteTable) -> None:
        assert table.revision > self.published.revision, "revisions only grow"
        if not self.is_first_table:
            assert table.models != self.published.models, "equal content is not published again"
        self.is_first_table = False
        serving = {each for each in self.things if self.is_in(each, Life.SERVING)}
        for name, intent in self.config.items():
            kept = {each for each in routed(self.published) if each.name == name} & serving
            preserving = isinstance(intent.aspired_policy, AvailabilityPreserving)
            if preserving and kept and self.find_aspired(name) != frozenset():
                assert table.models[name].routes, f"{name} had {kept} to answer for it, and has nothing now"

    def check_load(self, action: StartLoad) -> None:
        servable = action.servable
        assert servable not in self.open_loads, f"{servable} is ordered to load twice"
        assert servable not in self.open_unloads, f"{servable} is ordered to load before it is removed"
        assert len(self.open_loads) < OPTIONS.max_concurrent_loads, "more loads than allowed"
        listing = self.listed[servable.name]
        assert action.path == listing.versions[servable.version]
        assert servable.version not in listing.waiting, f"{servable} is ordered to load before it is finished"
        assert servable.version in (self.find_aspired(servable.name) or ())
        assert self.can_fit(servable), f"{servable} is ordered to load, and there is no node that could hold it"

    def check_unload(self, action: StartUnload) -> None:
        servable = action.servable
        assert servable not in self.open_unloads, f"{servable} is ordered to unload twice"
        assert servable not in routed(self.published)
        if not self.is_in(servable, Life.SERVING):
            return
        for name, reader in self.readers.items():
            for table in reader.tables:
                assert servable not in routed(table), f"{servable} is unloaded, but {name} routes by {table.revision}"

    def find_aspired(self, name: str) -> frozenset[int] | None:
        """An oracle of its own: None when nobody can know."""
        if name not in self.config:
            return frozenset()
        if name not in self.listed:
            return None
        listing = self.listed[name]
        loaded = {
            each.servable.version
            for each in self.look_at_versions().values()
            if each.servable.name == name and each.state in (State.READY, State.DRAINING)
        }
        found = set(listing.versions) | (set(listing.waiting) & loaded)
        return wanted_of(self.config[name], found)

    def can_fit(self, servable: ServableId) -> bool:
        """Another oracle: whether some node that was seen could hold the version."""
        intent = self.config[servable.name]
        size = self.listed[servable.name].sizes.get(servable.version, 0)
        memory = int(size * intent.memory_factor) if intent.demand.memory is None else intent.demand.memory
        return self.seen_nodes is None or any(
            node.gpus >= intent.demand.gpus and node.memory >= memory for node in self.seen_nodes
        )

    def look_at_versions(self) -> dict[ServableId, VersionView]:
        models = self.manager.snapshot().models.values()
        return {version.servable: version for model in models for version in model.versions}

    # Claims about what is told.

    def check_happenings(self, happenings: list[Happening]) -> None:
        told = {(each.model, each.version) for each in happenings}
        assert all(each.at == self.now and each.what and "\n" not in each.what for each in happenings)
        before, self.known = self.known, self.look_at_versions()
        for servable in before.keys() | self.known.keys():
            old = before[servable].state if servable in before else None
            new = self.known[servable].state if servable in self.known else None
            is_forgotten = new is None and old is State.ENDED
            assert old is new or is_forgotten or (servable.name, servable.version) in told, (
                f"{servable} went from {old} to {new}, and nobody was told"
            )
        for happening in happenings:
            if happening.what.startswith("label "):
                self.label_news[happening.model, happening.what.split()[1]] = happening
        self.history.add(*happenings)
        assert len(self.history) <= 25
        assert len(self.history.find("a")) <= 10

    @invariant()
    def labels_are_told_of(self) -> None:
        for name, intent in self.config.items():
            for label, number in intent.labels.items():
                news = self.label_news[name, label]
                is_active = number in self.published.models[name].routes
                assert news.version == number
                assert (" is active" in news.what) is is_active, f"{label} of {name}: {news}"

    # Claims about every state.

    @invariant()
    def routes_lead_to_ready_versions(self) -> None:
        for servable, app in routed(self.published).items():
            has_vanished = any(isinstance(report, ServableGone) for report in self.mail[servable])
            thing = self.things.get(servable)
            is_there = thing is not None and thing.life is Life.SERVING and thing.app == app
            assert has_vanished or is_there, f"{servable} is routed to {app}, but is {thing}"

    @invariant()
    def table_tells_what_the_manager_knows(self) -> None:
        models = self.manager.snapshot().models
        assert set(models) == set(self.published.models)
        for name, model in models.items():
            routes = self.published.models[name]
            assert dict(routes.labels) == (dict(self.config[name].labels) if name in self.config else {})
            assert dict(routes.traffic) == (dict(self.config[name].traffic) if name in self.config else {})
            assert [(each.version, each.state) for each in routes.statuses] == [
                (each.servable.version, public_state(each.state)) for each in model.versions
            ]
            for version in model.versions:
                assert version.progress is None or version.state is State.LOADING
                thing = self.things.get(version.servable)
                # A load that waits for the removal of what an earlier manager left is of another path, maybe.
                is_settled = not self.mail[version.servable] and not self.waiting[version.servable]
                if thing and version.state in (State.READY, State.LOADING) and is_settled:
                    assert version.path == thing.path
                assert (version.state is State.UNFIT) <= (version.error is not None and version.retry_at is None)
            ready = {each.servable.version for each in model.versions if each.state is State.READY}
            assert set(routes.routes) == ready
            for status in routes.statuses:
                assert status.code is Code.OK or status.state is PublicState.END

    @invariant()
    def memory_is_bounded(self) -> None:
        models = self.manager.snapshot().models.values()
        for model in models:
            assert sum(each.state is State.ENDED for each in model.versions) <= OPTIONS.ended_versions_kept
        dropped = [m for m in models if not m.configured and all(v.state is State.ENDED for v in m.versions)]
        assert len(dropped) <= OPTIONS.dropped_models_kept

    @invariant()
    def a_wakeup_lies_ahead(self) -> None:
        wakeup = self.manager.next_wakeup()
        assert wakeup is None or wakeup > self.now

    # What the world does: stores and configuration.

    @step()
    def add_version(self, choice: int) -> None:
        servable = SERVABLES[choice % 9]
        root = ("models", "models", "other")[choice % 3]
        store = self.stores[servable.name]
        if store is not None:
            store[servable.version] = f"/{root}/{servable.name}/{servable.version}"
            self.unfinished[servable.name].discard(servable.version)

    @step(weight=2)
    def begin_to_write(self, choice: int) -> None:
        """Someone writes a version, or writes into one that is there already."""
        servable = SERVABLES[choice % 9]
        store = self.stores[servable.name]
        if store is not None:
            store.setdefault(servable.version, f"/models/{servable.name}/{servable.version}")
            self.unfinished[servable.name].add(servable.version)

    @step()
    def end_to_write(self, choice: int) -> None:
        self.unfinished[MODELS[choice % 3]].clear()

    @step()
    def change_size(self, choice: int) -> None:
        self.sizes[SERVABLES[choice % 9]] = SIZES[choice % 2]

    @step()
    def remove_version(self, choice: int) -> None:
        servable = SERVABLES[choice % 9]
        store = self.stores[servable.name]
        if store is not None:
            store.pop(servable.version, None)
            self.unfinished[servable.name].discard(servable.version)

    @step()
    def lose_or_find_path(self, choice: int) -> None:
        name = MODELS[choice % 3]
        self.stores[name] = {} if self.stores[name] is None else None
        self.unfinished[name].clear()

    @step(weight=3)
    def replace_versions(self, choice: int) -> None:
        """The most frequent thing to happen: someone brings a version, and it is seen."""
        servable = SERVABLES[choice % 9]
        self.stores[servable.name] = {servable.version: f"/models/{servable.name}/{servable.version}"}
        self.unfinished[servable.name].clear()
        self.handle(self.look(servable.name))

    @step(weight=3)
    def poll(self, choice: int) -> None:
        """Also polls models that are not configured: such a poll began before its model was dropped."""
        self.handle(self.look(MODELS[choice % 3]))

    def look(self, name: str) -> Event:
        store = self.stores[name]
        if store is None:
            return ListingFailed(name, Code.NOT_FOUND, f"Could not find base path /models/{name}")
        unfinished = self.unfinished[name]
        return VersionsListed(
            name,
            versions={number: path for number, path in store.items() if number not in unfinished},
            waiting=dict.fromkeys(unfinished, "saved_model.pb is missing"),
            sizes={each.version: size for each, size in self.sizes.items() if each.name == name},
        )

    @step(weight=2)
    def see_nodes(self, choice: int) -> None:
        """Nodes come and go, and the controller looks, or looks later."""
        self.nodes = CLUSTERS[choice % 6]
        if choice % 4:
            self.handle(NodesSeen(self.nodes))

    @step()
    def configure(self, choice: int) -> None:
        self.handle(ConfigApplied(CONFIGS[choice % 8]))

    @step(lambda self: bool(self.config), weight=2)
    def edit(self, choice: int) -> None:
        """One setting of one model changes."""
        name = sorted(self.config)[choice % len(self.config)]
        edited = self.config | {name: replace(self.config[name], **EDITS[choice % 12])}
        self.handle(ConfigApplied(tuple(edited.values())))

    @step()
    def configure_and_look_at_once(self, choice: int) -> None:
        """Drops every model and takes some back in one breath."""
        self.handle(ConfigApplied(()), ConfigApplied(CONFIGS[choice % 8]), *(self.look(name) for name in MODELS))

    @step(weight=2)
    def tell_again(self, choice: int) -> None:
        """Nothing that is known already leads to any action."""
        before = self.published
        nodes = [] if self.seen_nodes is None else [NodesSeen(self.seen_nodes)]
        told: list[Event] = [*self.listed.values(), *nodes, *map(ReaderJoined, self.readers)]
        failures = {name: model.listing_failure for name, model in self.manager.snapshot().models.items()}
        told += [ListingFailed(name, each.code, "another text") for name, each in failures.items() if each]
        assert self.manager.handle(ConfigApplied(tuple(self.config.values())), *told, now=self.now) == []
        recovered = [each for each in self.manager.take_happenings() if "can be listed again" not in each.what]
        assert [each for each in recovered if "cannot be listed" not in each.what] == []
        assert self.published is before

    # Loads and unloads.

    @step()
    def turn_bad_or_good(self, choice: int) -> None:
        self.bad ^= {SERVABLES[choice % 9]}

    def pick(self, life: Life, choice: int) -> ServableId:
        candidates = sorted(each for each, thing in self.things.items() if thing.life is life)
        return candidates[choice % len(candidates)]

    def has(self, life: Life) -> bool:
        return any(thing.life is life for thing in self.things.values())

    @step(lambda self: self.has(Life.LOADING), weight=3)
    def finish_load(self, choice: int) -> None:
        servable = self.pick(Life.LOADING, choice)
        self.end_load(servable)
        if choice % 2:
            self.deliver_all(servable)

    def end_load(self, servable: ServableId) -> None:
        thing = self.things[servable]
        if servable in self.bad:
            thing.life = Life.REMAINS
            self.mail[servable].append(LoadFailed(servable, Code.DATA_LOSS, "a shard is missing", thing.order))
        else:
            thing.life = Life.SERVING
            self.mail[servable].append(ServableLoaded(servable, thing.app, {}, thing.order))

    @step(lambda self: self.has(Life.LOADING))
    def progress(self, choice: int) -> None:
        """A report about a load that was called off meanwhile has the number of an order that is not the newest."""
        servable = self.pick(Life.LOADING, choice)
        order = self.things[servable].order - choice % 2
        self.handle(LoadProgressed(servable, f"at {choice} of 255", order))
        seen = self.look_at_versions().get(servable)
        if seen and seen.state is State.LOADING and self.open_loads.get(servable) == order:
            assert seen.progress == f"at {choice} of 255"

    @step(lambda self: self.has(Life.REMOVING), weight=3)
    def finish_unload(self, choice: int) -> None:
        servable = self.pick(Life.REMOVING, choice)
        self.end_unload(servable)
        if choice % 2:
            self.deliver_all(servable)

    def end_unload(self, servable: ServableId) -> None:
        thing = self.things.pop(servable)
        self.mail[servable].append(ServableGone(servable, thing.order))
        self.work(servable)

    @step(lambda self: self.has(Life.SERVING))
    def vanish(self, choice: int) -> None:
        servable = self.pick(Life.SERVING, choice)
        thing = self.things.pop(servable)
        self.mail[servable].append(ServableGone(servable, thing.order))
        if choice % 2:
            self.deliver_all(servable)

    @step(lambda self: self.has(Life.SERVING))
    def move(self, choice: int) -> None:
        """What serves is to be asked somewhere else, once everything that was told of it before has arrived."""
        servable = self.pick(Life.SERVING, choice)
        if not self.mail[servable]:
            thing = self.things[servable]
            self.births += 1
            thing.app = f"{servable}#{self.births}"
            self.handle(ServableMoved(servable, thing.app, {}, Placement.COLOCATED, thing.order))

    @step(lambda self: self.has(Life.LOADING))
    def vanish_while_loading(self, choice: int) -> None:
        servable = self.pick(Life.LOADING, choice)
        thing = self.things.pop(servable)
        self.mail[servable].append(LoadFailed(servable, Code.UNAVAILABLE, "its process died", thing.order))

    # Reports.

    def addressees(self) -> list[ServableId]:
        return sorted(servable for servable, reports in self.mail.items() if reports)

    @step(lambda self: bool(self.addressees()), weight=4)
    def deliver(self, choice: int) -> None:
        """Hands over the oldest report about one version."""
        candidates = self.addressees()
        self.deliver_next(candidates[choice % len(candidates)])

    def deliver_next(self, servable: ServableId) -> None:
        report = self.mail[servable].popleft()
        self.delivered.append(report)
        self.handle(report)

    def deliver_all(self, servable: ServableId) -> None:
        while self.mail[servable]:
            self.deliver_next(servable)

    @step(lambda self: bool(self.delivered), weight=3)
    def deliver_again(self, choice: int) -> None:
        """Repeats one of the last reports, whatever has happened since."""
        self.handle(self.delivered[-1 - choice % min(8, len(self.delivered))])

    @step()
    def deliver_everything_at_once(self, choice: int) -> None:
        reports = [event for servable in self.addressees() for event in self.mail[servable]]
        self.mail.clear()
        self.delivered.extend(reports)
        self.handle(*reports, *(self.look(name) for name in MODELS[: choice % 4]), Tick())

    @step(weight=2)
    def pass_time(self, choice: int) -> None:
        self.now += (0.5, 1.0, 4.0, 100.0)[choice % 4]
        self.handle(Tick())

    # Readers.

    @step(lambda self: len(self.readers) < 3)
    def join(self, choice: int = 0) -> None:
        self.births += 1
        name = f"reader{self.births}"
        self.handle(ReaderJoined(name))
        self.readers[name] = Reader([self.published])

    def pick_reader(self, choice: int) -> str:
        return sorted(self.readers)[choice % len(self.readers)]

    @step(lambda self: bool(self.readers), weight=3)
    def fetch(self, choice: int) -> None:
        reader = self.readers[self.pick_reader(choice)]
        if reader.tables[-1] is not self.published:
            reader.tables.append(self.published)

    @step(lambda self: bool(self.readers), weight=3)
    def finish_requests(self, choice: int) -> None:
        self.settle_reader(self.pick_reader(choice))

    def settle_reader(self, name: str) -> None:
        reader = self.readers[name]
        del reader.tables[:-1]
        reader.acknowledgements.append(reader.tables[0].revision)

    @step(lambda self: bool(self.readers), weight=3)
    def acknowledge(self, choice: int) -> None:
        name = self.pick_reader(choice)
        acknowledgements = self.readers[name].acknowledgements
        if acknowledgements:
            revision = acknowledgements.popleft() if choice % 4 else acknowledgements[0]
            self.handle(RoutesAcknowledged(name, revision))

    @step(lambda self: bool(self.readers))
    def leave(self, choice: int) -> None:
        name = self.pick_reader(choice)
        del self.readers[name]
        self.departed.append(name)

    @step(lambda self: bool(self.departed))
    def notice_departure(self, choice: int) -> None:
        name = self.departed.pop()
        self.handle(ReaderLeft(name))
        if choice % 2:
            self.handle(RoutesAcknowledged(name, self.published.revision))

    # The controller.

    @step()
    def restart(self, choice: int) -> None:
        """A new controller knows the configuration, and finds readers and servables; reports on their way are lost."""
        self.manager = Manager(OPTIONS, revision=self.published.revision + choice % 5)
        self.is_first_table = True
        self.known.clear()
        self.label_news.clear()
        self.seen_nodes = None
        self.listed.clear()
        self.waiting.clear()
        self.mail.clear()
        self.delivered.clear()
        self.departed.clear()
        for thing in self.things.values():
            thing.order = 0
        self.open_unloads.clear()
        self.open_loads = {
            servable: 0 for servable, thing in self.things.items() if thing.life in (Life.LOADING, Life.REMAINS)
        }
        for reader in self.readers.values():
            reader.acknowledgements.clear()
        events: list[Event] = [ConfigApplied(tuple(self.config.values())), *map(ReaderJoined, self.readers)]
        if choice % 3:
            events.append(NodesSeen(self.nodes))
        for servable, thing in self.things.items():
            if thing.life is Life.SERVING:
                events.append(ServableAdopted(servable, thing.app, {}, thing.path))
            elif thing.life is not Life.REMOVING:
                events.append(LoadAdopted(servable, thing.path))
            if thing.life is Life.REMAINS:
                self.mail[servable].append(LoadFailed(servable, Code.DATA_LOSS, "found in ruins", 0))
        for event in events:
            self.note(event)
            assert self.manager.handle(event, now=self.now) == [], "the first tick says that all is told"
        self.handle(Tick())

    # In the end all is well.

    @step()
    def calm_down(self, choice: int = 0) -> None:
        """Everything that was begun comes to its end, everyone does what is expected, and time passes."""
        for servable in [each for each, thing in self.things.items() if thing.life is Life.LOADING]:
            self.end_load(servable)
        for servable in [each for each, thing in self.things.items() if thing.life is Life.REMOVING]:
            self.end_unload(servable)
        for name in self.departed:
            self.handle(ReaderLeft(name))
        self.departed.clear()
        for servable in self.addressees():
            self.deliver_all(servable)
        self.handle(NodesSeen(self.nodes))
        for name in MODELS:
            self.handle(self.look(name))
        for name, reader in self.readers.items():
            reader.tables.append(self.published)
            self.settle_reader(name)
            self.handle(RoutesAcknowledged(name, self.published.revision))
            reader.acknowledgements.clear()
        self.now += 10.0
        self.handle(Tick())
        self.routes_lead_to_ready_versions()
        self.table_tells_what_the_manager_knows()

    def is_one_coming(self, name: str) -> bool:
        """Whether a version will be wanted as soon as it is finished."""
        listing = self.listed.get(name) if name in self.config else None
        if listing is None:
            return False
        found = set(listing.versions) | set(listing.waiting)
        return bool(wanted_of(self.config[name], found) & set(listing.waiting))

    def find_shortcomings(self) -> list[str]:
        """Where the world differs from what is wanted."""
        found = []
        for name in MODELS:
            aspired = self.find_aspired(name)
            if aspired is None:
                continue
            loaded = {each.version: thing.life for each, thing in self.things.items() if each.name == name}
            serving = {number for number, life in loaded.items() if life is Life.SERVING}
            fitting = {number for number in aspired if self.can_fit(ServableId(name, number))}
            good = {number for number in fitting if ServableId(name, number) not in self.bad}
            unwanted = set(loaded) - aspired
            preserving = name in self.config and self.config[name].aspired_policy == AvailabilityPreserving()
            spared = 0
            if (aspired or self.is_one_coming(name)) and not serving & aspired:
                spared = 1 if preserving else 0 if fitting or not aspired else len(unwanted)
            if not good <= serving:
                found.append(f"{name}: {good - serving} should serve")
            if any(loaded.get(each) is Life.LOADING and ServableId(name, each) not in self.bad for each in aspired):
                found.append(f"{name}: loads are under way")
            if len(unwanted) > spared or not unwanted <= serving:
                found.append(f"{name}: {unwanted} should be gone")
            if {each.version for each in routed(self.published) if each.name == name} != serving:
                found.append(f"{name}: {serving} serve, but others are routed to")
        return found

    def teardown(self) -> None:
        if sys.exc_info()[0] is None:  # Otherwise a claim is broken already, and what follows would only hide it.
            self.come_right()

    def come_right(self) -> None:
        for _ in range(CALM_ROUNDS):
            self.calm_down()
            if not self.find_shortcomings():
                break
        assert not self.find_shortcomings()
        for _ in range(3):
            self.calm_down()
            assert not self.find_shortcomings()


TestManagerInAnyWorld = World.TestCase
TestManagerInAnyWorld.settings = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    stateful_step_count=100 if DEEP else 50,
    max_examples=5000 if DEEP else 60,
    derandomize=not DEEP,
)


def walk(seed: int, length: int) -> None:
    """One history; what was done is shown when a claim breaks."""
    chance = random.Random(seed)
    world = World()
    for _ in range(length):
        function, when = chance.choice(STEPS)
        if not when(world):
            continue
        choice = chance.randrange(256)
        print(f"{function.__name__}({choice})")
        function(world, choice)
        world.routes_lead_to_ready_versions()
        world.table_tells_what_the_manager_knows()
        world.memory_is_bounded()
        world.labels_are_told_of()
        world.a_wakeup_lies_ahead()
    world.come_right()


@pytest.mark.parametrize("block", range(200 if DEEP else 2))
def test_manager_in_random_walks(block: int, capsys: pytest.CaptureFixture[str]) -> None:
    """No claim breaks in long random histories, and each one comes right in the end."""
    for seed in range(block * 250, (block + 1) * 250):
        walk(seed, length=80)
        capsys.readouterr()  # This one was fine.
