"""The Manager: what is wanted and what is seen go in as events, what is to be done comes out as actions.

    manager = Manager(ManagerOptions())
    actions = manager.handle(ConfigApplied(...), VersionsListed(...), Tick(), now=12.5)

The Manager is synchronous. It reads no clock, writes no log, waits for nothing and does nothing; a shell around it
does. The contract between the two:

* One caller at a time; `now` never decreases.
* Until the first `Tick` events are only taken in. A shell that starts, or starts again, first tells everything that
  it finds (ConfigApplied, ServableAdopted, LoadAdopted, ReaderJoined), then ticks. The first tick always publishes a
  table, because readers may hold one of an earlier manager; `revision` has to be at least as high as any that was
  published before.
* Actions are to be begun in the order of the list. A `PublishRoutes` is in force, for every reader that asks from
  then on, before a later action begins.
* Every `StartLoad` is answered by ServableLoaded or LoadFailed, unless a `StartUnload` of the same version comes in
  between. Every `StartUnload` is answered by ServableGone, also when nothing was there. Orders about one version are
  carried out one after the other.
* Reports about one version arrive in the order in which they became true. They may be late, and those that tell the
  number of their order may be repeated at any time. A report without a number must not be held back until after the
  next but one order about that version: by then it would be taken for news.
* A reader's name is used for one life only: whoever comes back after ReaderLeft joins under a new name. It is
  announced by ReaderJoined before it gets its first table. An acknowledgement by someone who has not joined, or of a
  revision that was not published here, says nothing.
* `handle` is to be called again at `next_wakeup()` at the latest. Nothing else depends on being called regularly.

How it decides. Events change what is known about their model, and mark the model. Then every marked model is
settled: its actions are derived anew from what is wanted and what is seen, whatever led there. So no decision hangs
on a particular event being seen, and one rule covers the new, the repeated and the late. The order of the rules:

1. Aspired versions that are unknown or ended start over; unwanted ones that hold nothing are forgotten or ended.
2. The policy says which loaded versions should go. A version drains exactly as long as the policy says so: when
   its successor vanishes, or it is aspired again, it goes back into the routes.
3. A version that should go is unloaded when no reader can name it any more. That holds for loads that are called off
   as well: a reader may still have a table from an earlier life of that version.
4. Loads start while there are slots, model by model in turn. Within a model new versions go before those that failed
   before, so that a version that never loads cannot hold up one that would.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import assert_never

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
    Tick,
    VersionsListed,
)
from serving_app.core.history import Story
from serving_app.core.policies import (
    AspiredVersionPolicy,
    AvailabilityPreserving,
    Load,
    Unload,
    VersionSnapshot,
    aspired_versions,
    next_step,
)
from serving_app.core.routing import ModelRoutes, Route, RouteTable, VersionStatus
from serving_app.core.servable import ServableId
from serving_app.core.states import MOVES, Cause, IllegalMove, PublicState, State, public_state
from serving_app.core.views import Failure, ManagerView, ModelView, VersionView


@dataclass(frozen=True, slots=True)
class ManagerOptions:
    """The limits that the manager keeps."""

    max_concurrent_loads: int = 4
    """Loads under way at one time, over all models."""
    retry_base_s: float = 1.0
    """The wait after the first failed load of a version; each further failure doubles it."""
    retry_max_s: float = 60.0
    """The longest wait between two attempts."""
    story_length: int = 32
    """Moments remembered for each version."""
    ended_versions_kept: int = 16
    """Ended versions of a model that stay visible; those that ended last are kept."""
    dropped_models_kept: int = 256
    """Models out of the configuration whose ended versions stay visible; those that were dropped last are kept."""

    def __post_init__(self) -> None:
        for name in ("max_concurrent_loads", "story_length"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        for name in ("ended_versions_kept", "dropped_models_kept"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be 0 or more")
        if not 0 < self.retry_base_s <= self.retry_max_s:
            raise ValueError(
                f"retry_base_s is {self.retry_base_s} and retry_max_s is {self.retry_max_s}; "
                "both must be above 0, and the base not above the maximum"
            )


@dataclass(slots=True)
class _Version:
    servable: ServableId
    story: Story = field(repr=False)
    since: float
    state: State = State.NEW
    order: int = 0  # the newest one about it; 0 if that was an earlier manager's, or there was none
    path: str | None = None  # of the last order to load
    route: Route | None = None  # while loaded
    failures: int = 0  # in a row
    error: Failure | None = None  # the last one, until a load succeeds or the version starts over
    retry_at: float = 0.0

    def status(self) -> VersionStatus:
        public = public_state(self.state)
        if public is PublicState.END and self.error:
            return VersionStatus(self.servable.version, public, self.error.code, self.error.message)
        return VersionStatus(self.servable.version, public)


@dataclass(slots=True)
class _Model:
    name: str
    intent: ModelIntent | None = None  # None: out of the configuration
    listing: Mapping[int, str] | None = None  # None: not listed since it is in the configuration
    listing_failure: Failure | None = None
    aspired: Mapping[int, str] | None = None  # version to path, as of the last time that the model was settled
    versions: dict[int, _Version] = field(default_factory=dict)

    @property
    def policy(self) -> AspiredVersionPolicy:
        return self.intent.aspired_policy if self.intent else AvailabilityPreserving()

    @property
    def is_over(self) -> bool:
        """Whether there is nothing left to do about it, nor ever will be unless it comes back."""
        return self.intent is None and all(each.state is State.ENDED for each in self.versions.values())

    def find_aspired(self) -> Mapping[int, str] | None:
        """The versions to be served and where they are; None when nobody can know yet."""
        if self.intent is None:
            return {}
        if self.listing is None:
            return None
        numbers = aspired_versions(self.intent.version_policy, self.listing)
        return {number: self.listing[number] for number in numbers}

    def is_aspired(self, version: _Version) -> bool:
        return self.aspired is not None and version.servable.version in self.aspired

    def find_retry(self, now: float) -> _Version | None:
        """The aspired failed version whose next attempt has been due for the longest time."""
        due = [each for each in self.versions.values() if each.state is State.FAILED and self.is_aspired(each)]
        due = [each for each in due if each.retry_at <= now]
        return min(due, key=lambda each: (each.retry_at, -each.servable.version), default=None)

    def find_next_retry(self, now: float) -> float | None:
        """When an aspired failed version will be due that is not due yet."""
        failed = [each for each in self.versions.values() if each.state is State.FAILED and self.is_aspired(each)]
        return min((each.retry_at for each in failed if each.retry_at > now), default=None)

    def take_snapshots(self, now: float) -> list[VersionSnapshot]:
        """The versions as a policy should see them: a failed one whose next attempt is due counts as new, one at a
        time and only when nothing is really new."""
        versions = self.versions.values()
        snapshots = [VersionSnapshot(each.servable.version, each.state, self.is_aspired(each)) for each in versions]
        if any(each.state is State.NEW and each.aspired for each in snapshots):
            return snapshots
        retry = self.find_retry(now)
        if retry is None:
            return snapshots
        number = retry.servable.version
        return [replace(each, state=State.NEW) if each.version == number else each for each in snapshots]

    def make_routes(self) -> ModelRoutes:
        newest_first = self._sort_newest_first()
        ready = [each for each in newest_first if each.state is State.READY]
        return ModelRoutes(
            routes={each.servable.version: each.route for each in ready if each.route},
            labels=dict(self.intent.labels) if self.intent else {},
            statuses=tuple(each.status() for each in newest_first),
        )

    def view(self) -> ModelView:
        return ModelView(
            name=self.name,
            configured=self.intent is not None,
            aspired=None if self.aspired is None else frozenset(self.aspired),
            listing_failure=self.listing_failure,
            versions=tuple(self._view_version(each) for each in self._sort_newest_first()),
        )

    def _sort_newest_first(self) -> list[_Version]:
        return [self.versions[number] for number in sorted(self.versions, reverse=True)]

    def _view_version(self, version: _Version) -> VersionView:
        aspired = self.is_aspired(version)
        return VersionView(
            servable=version.servable,
            state=version.state,
            since=version.since,
            aspired=None if self.aspired is None else aspired,
            path=version.path,
            app=version.route.app if version.route else None,
            failures=version.failures,
            error=version.error,
            retry_at=version.retry_at if aspired and version.state is State.FAILED else None,
        )


def _exactly(delay: float) -> float:
    return delay


class Manager:
    """Decides for all models of one serving app; the module's text has the contract.

    `jitter` may change the wait before a load is tried again.
    """

    def __init__(
        self,
        options: ManagerOptions | None = None,
        revision: int = 0,
        jitter: Callable[[float], float] = _exactly,
    ) -> None:
        self._options = options or ManagerOptions()
        self._jitter = jitter
        self._started = False
        self._published = False
        self._table = RouteTable(revision=revision)
        self._models: dict[str, _Model] = {}
        self._readers: dict[str, int] = {}  # the newest revision that each one acknowledged
        # What is not in the newest table, but may be in one that a reader has: the first revision without it.
        self._withdrawn: dict[ServableId, int] = {}
        # Revisions up to this one are of an earlier manager: nobody here knows what those tables name.
        self._inherited_revision = revision
        self._are_inherited_tables_in_use = True
        self._loading: set[ServableId] = set()
        # Ordered sets, so that equal events lead to equal actions.
        self._marked: dict[str, None] = {}  # models to settle
        self._queue: dict[str, None] = {}  # models that want to load something, next first
        self._retired: dict[str, None] = {}  # models of which only ended versions are left, oldest first
        self._wakeups: dict[str, float] = {}  # when the next retry of a model is due
        self._orders: list[Action] = []  # not handed out yet
        self._last_order = 0

    def __repr__(self) -> str:
        counts = Counter(each.state.value for model in self._models.values() for each in model.versions.values())
        states = ", ".join(f"{count} {name}" for name, count in counts.items()) or "no versions"
        return (
            f"<Manager revision {self._table.revision}, {len(self._models)} models: {states}; "
            f"{len(self._readers)} readers, {len(self._queue)} models waiting to load>"
        )

    @property
    def table(self) -> RouteTable:
        """The newest table that was published."""
        return self._table

    def next_wakeup(self) -> float | None:
        """When `handle` has to be called at the latest, with a Tick if nothing else happens; None means no need."""
        return min(self._wakeups.values(), default=None)

    def limit(self, options: ManagerOptions) -> None:
        """Keep these limits from the next `handle` on. What is under way goes on, also if it is more than that."""
        self._options = options

    def snapshot(self) -> ManagerView:
        """All that is known, for people."""
        models = {name: self._models[name].view() for name in sorted(self._models)}
        return ManagerView(self._table.revision, dict(self._readers), models)

    def handle(self, *events: Event, now: float) -> list[Action]:
        """Take in what has happened and say what is to be done, in that order."""
        for event in events:
            self._absorb(event, now)
        actions: list[Action] = []
        # Publishing can free what waited for it, hence the loop. Each round frees something for good, so it ends.
        while self._started and (self._mark_what_changed_by_itself(now) or not self._published):
            marked, self._marked = self._marked, {}
            for name in marked:
                if name in self._models:
                    self._settle(self._models[name], now)
            loading = self._start_loads(now)
            actions += self._publish([*marked, *loading])
            actions += self._orders
            self._orders = []
        return actions

    # Taking in what has happened.

    def _absorb(self, event: Event, now: float) -> None:
        match event:
            case ConfigApplied():
                self._configure(event.models)
            case VersionsListed():
                self._take_listing(event.model, event.versions)
            case ListingFailed():
                model = self._models.get(event.model)
                if model and model.intent:
                    model.listing_failure = Failure(event.code, event.message)
            case ServableLoaded():
                self._take_loaded(event, Cause.LOADED, event.order, now)
            case ServableAdopted():
                self._adopt(event.servable, now)
                self._take_loaded(event, Cause.FOUND_SERVING, None, now)
            case LoadAdopted():
                self._adopt(event.servable, now)
                self._take_report(event.servable, Cause.FOUND_LOADING, None, now)
            case LoadFailed():
                self._take_failure(event, now)
            case ServableGone():
                version = self._take_report(event.servable, Cause.GONE, event.order, now)
                if version and version.state is State.ENDED:
                    version.route = None
            case ReaderJoined():
                self._readers.setdefault(event.reader, -1)
            case RoutesAcknowledged():
                self._acknowledge(event.reader, event.revision)
            case ReaderLeft():
                self._readers.pop(event.reader, None)
            case NodesSeen() | LoadProgressed():
                pass
            case Tick():
                self._start()
            case _:
                assert_never(event)

    def _start(self) -> None:
        if self._started:
            return
        self._started = True
        self._mark(self._models)

    def _configure(self, intents: Iterable[ModelIntent]) -> None:
        wanted = {intent.name: intent for intent in intents}
        for name in wanted:
            self._models.setdefault(name, _Model(name))
        for model in self._models.values():
            model.intent = wanted.get(model.name)
            if model.intent is None:
                # Should the model come back, it may live elsewhere; the old listing says nothing then.
                model.listing = None
                model.listing_failure = None
        self._mark(self._models)

    def _take_listing(self, name: str, versions: Mapping[int, str]) -> None:
        model = self._models.get(name)
        if model is None or model.intent is None:
            return  # The poll began before the model was dropped.
        model.listing_failure = None
        if model.listing != versions:
            model.listing = dict(versions)
            self._mark([name])

    def _take_loaded(
        self, event: ServableLoaded | ServableAdopted, cause: Cause, order: int | None, now: float
    ) -> None:
        version = self._take_report(event.servable, cause, order, now)
        if version and version.state in (State.READY, State.DRAINING):
            version.route = Route(event.servable, event.app, event.signatures)
            version.failures = 0
            version.error = None

    def _take_failure(self, event: LoadFailed, now: float) -> None:
        waited_for = event.servable in self._loading
        detail = f" ({event.code.name}: {event.message})"
        version = self._take_report(event.servable, Cause.LOAD_FAILED, event.order, now, detail)
        if version and waited_for:
            version.error = Failure(event.code, event.message)
            version.retry_at = now + self._find_delay(version.failures)
            version.failures += 1
            self._order_removal(version)

    def _find_delay(self, failures_before: int) -> float:
        doublings = min(failures_before, 64)  # beyond that only the maximum counts, and floats overflow
        return self._jitter(min(self._options.retry_base_s * 2.0**doublings, self._options.retry_max_s))

    def _acknowledge(self, reader: str, revision: int) -> None:
        known = self._readers.get(reader)
        if known is not None and known < revision <= self._table.revision:
            self._readers[reader] = revision

    def _take_report(
        self, servable: ServableId, cause: Cause, order: int | None, now: float, detail: str = ""
    ) -> _Version | None:
        """Move the version that a report is about, and return it. A report about a version that nobody knows, or about
        an order that is not the newest, changes nothing."""
        model = self._models.get(servable.name)
        version = model.versions.get(servable.version) if model else None
        if version is None or order not in (None, version.order):
            return None
        self._move(version, cause, now, detail)
        self._mark([servable.name])
        return version

    def _adopt(self, servable: ServableId, now: float) -> None:
        version = self._find_or_add(servable, now)
        if version.state in (State.NEW, State.FAILED, State.ENDED):
            version.order = 0  # It lives by the order of an earlier manager.

    def _find_or_add(self, servable: ServableId, now: float) -> _Version:
        versions = self._models.setdefault(servable.name, _Model(servable.name)).versions
        if servable.version not in versions:
            versions[servable.version] = _Version(servable, Story(self._options.story_length), since=now)
        return versions[servable.version]

    def _move(self, version: _Version, cause: Cause, now: float, detail: str = "") -> None:
        before = version.state
        after = MOVES.get((before, cause))
        if after is None:
            raise IllegalMove(str(version.servable), before, cause, str(version.story))
        version.story.tell(now, f"{cause.value}{detail}: {before.value} -> {after.value}")
        if after is not before:
            version.state = after
            version.since = now
        if after is State.LOADING:
            self._loading.add(version.servable)
        else:
            self._loading.discard(version.servable)

    def _mark(self, names: Iterable[str]) -> None:
        self._marked.update(dict.fromkeys(names))

    # Deciding.

    def _mark_what_changed_by_itself(self, now: float) -> bool:
        """Mark models whose retry is due or whose version no reader names any more; say whether any is marked."""
        for name in [name for name, due in self._wakeups.items() if due <= now]:
            del self._wakeups[name]
            self._mark([name])
        if self._withdrawn or self._are_inherited_tables_in_use:
            oldest = min(self._readers.values(), default=self._table.revision)
            if self._are_inherited_tables_in_use and oldest > self._inherited_revision:
                self._are_inherited_tables_in_use = False
                self._mark(self._models)
            for servable in [each for each, revision in self._withdrawn.items() if revision <= oldest]:
                del self._withdrawn[servable]
                self._mark([servable.name])
        return bool(self._marked)

    def _is_named(self, servable: ServableId) -> bool:
        """Whether a reader may route to this version, by the newest table or an older one."""
        if self._are_inherited_tables_in_use or servable in self._withdrawn:
            return True
        model = self._table.models.get(servable.name)
        return model is not None and servable.version in model.routes

    def _settle(self, model: _Model, now: float) -> None:
        """Derive what to do about one model from what is wanted and what is seen."""
        model.aspired = model.find_aspired()
        if model.aspired is not None:
            self._welcome(model, model.aspired, now)
            self._dismiss(model, now)
        self._drain(model, now)
        self._line_up(model, now)
        self._forget(model)

    def _welcome(self, model: _Model, aspired: Mapping[int, str], now: float) -> None:
        """Let aspired versions begin, or begin again."""
        for number in sorted(aspired, reverse=True):
            version = self._find_or_add(ServableId(model.name, number), now)
            if version.state is State.ENDED:
                self._move(version, Cause.ASPIRE, now)
                version.failures = 0
                version.error = None
            elif version.state is State.FAILED and version.path != aspired[number]:
                # It lies elsewhere now, so what went wrong before need not go wrong again.
                version.failures = 0
                version.retry_at = now

    def _dismiss(self, model: _Model, now: float) -> None:
        """Let go of unwanted versions that are not loaded."""
        for version in [each for each in model.versions.values() if not model.is_aspired(each)]:
            if version.state is State.NEW:
                del model.versions[version.servable.version]
            elif version.state is State.FAILED:
                self._move(version, Cause.END, now)
            elif version.state is State.LOADING and not self._is_named(version.servable):
                # The text is TensorFlow Serving's (loader_harness.cc).
                version.error = version.error or Failure(Code.CANCELLED, "Loading of servable cancelled")
                self._unload(version, now)

    def _drain(self, model: _Model, now: float) -> None:
        """Take out of the routes what the policy wants to go, put back what it does not, unload what nobody names."""
        unwanted = self._find_unwanted(model, now)
        for version in [model.versions[number] for number in sorted(model.versions)]:
            if version.servable.version in unwanted:
                if version.state is State.READY:
                    self._move(version, Cause.DRAIN, now)
                if not self._is_named(version.servable):
                    self._unload(version, now)
            elif version.state is State.DRAINING:
                self._move(version, Cause.KEEP, now)

    def _find_unwanted(self, model: _Model, now: float) -> set[int]:
        """The loaded versions that the policy wants to go, whether or not they are on their way already."""
        unwanted: set[int] = set()
        if model.aspired is None:
            return unwanted
        snapshots = {
            each.version: replace(each, state=State.READY) if each.state is State.DRAINING else each
            for each in model.take_snapshots(now)
        }
        while isinstance(step := next_step(model.policy, list(snapshots.values())), Unload):
            unwanted.add(step.version)
            snapshots[step.version] = replace(snapshots[step.version], state=State.DRAINING)
        return unwanted

    def _unload(self, version: _Version, now: float) -> None:
        self._move(version, Cause.UNLOAD, now)
        self._order_removal(version)

    def _order_removal(self, version: _Version) -> None:
        version.order = self._number_order()
        self._orders.append(StartUnload(version.servable, version.order))

    def _number_order(self) -> int:
        self._last_order += 1
        return self._last_order

    def _line_up(self, model: _Model, now: float) -> None:
        """Put the model into the queue for load slots if it wants one, and note when it will want one again."""
        if self._find_load(model, now):
            self._queue.setdefault(model.name)
        else:
            self._queue.pop(model.name, None)
        retry = model.find_next_retry(now)
        if retry is None:
            self._wakeups.pop(model.name, None)
        else:
            self._wakeups[model.name] = retry

    def _find_load(self, model: _Model, now: float) -> _Version | None:
        if model.aspired is None:
            return None
        step = next_step(model.policy, model.take_snapshots(now))
        return model.versions[step.version] if isinstance(step, Load) else None

    def _start_loads(self, now: float) -> list[str]:
        """Fill the free slots, one version of a model at a time, and name the models that got one."""
        started = []
        while self._queue and len(self._loading) < self._options.max_concurrent_loads:
            model = self._models[next(iter(self._queue))]
            del self._queue[model.name]
            version = self._find_load(model, now)
            if version is None or model.aspired is None:
                continue
            version.path = model.aspired[version.servable.version]
            version.order = self._number_order()
            self._move(version, Cause.LOAD, now)
            self._orders.append(StartLoad(version.servable, version.path, version.failures + 1, version.order))
            self._line_up(model, now)
            started.append(model.name)
        return started

    def _forget(self, model: _Model) -> None:
        """Keep what has ended visible, but only so much of it."""
        ended = [each for each in model.versions.values() if each.state is State.ENDED]
        ended.sort(key=lambda each: (each.since, each.servable.version))
        for version in ended[: max(0, len(ended) - self._options.ended_versions_kept)]:
            del model.versions[version.servable.version]
        if not model.is_over:
            self._retired.pop(model.name, None)
        elif not model.versions:
            self._retired.pop(model.name, None)
            del self._models[model.name]
        else:
            self._retired.setdefault(model.name)
        while len(self._retired) > self._options.dropped_models_kept:
            oldest = next(iter(self._retired))
            del self._retired[oldest]
            if self._models[oldest].is_over:  # It may have come back in this very moment, and be settled next.
                del self._models[oldest]
                self._mark([oldest])

    def _publish(self, names: Iterable[str]) -> list[Action]:
        """Publish a table if these models make it differ from the last one. Models that did not change are shared."""
        revision = self._table.revision + 1
        changed: dict[str, ModelRoutes | None] = {}
        for name in dict.fromkeys(names):
            model = self._models.get(name)
            routes = model.make_routes() if model else None
            if routes != self._table.models.get(name):
                changed[name] = routes
        if not changed and self._published:
            return []
        models = dict(self._table.models)
        for name, routes in changed.items():
            self._note_withdrawn(name, revision, models.pop(name, None), routes)
            if routes is not None:
                models[name] = routes
        self._table = RouteTable(revision, models)
        self._published = True
        return [PublishRoutes(self._table)]

    def _note_withdrawn(self, name: str, revision: int, old: ModelRoutes | None, new: ModelRoutes | None) -> None:
        for number in old.routes if old else ():
            self._withdrawn[ServableId(name, number)] = revision
        for number in new.routes if new else ():
            self._withdrawn.pop(ServableId(name, number), None)
