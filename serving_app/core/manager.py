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

1. Aspired versions that are unknown or ended start over; unwanted ones that hold nothing are forgotten or ended. One
   that no node could hold is set aside before it is ordered, and comes back when that has changed.
2. The policy says which loaded versions should go. A version drains exactly as long as the policy says so: when
   its successor vanishes, or it is aspired again, it goes back into the routes.
3. A version that should go is unloaded when no reader can name it any more. That holds for loads that are called off
   as well: a reader may still have a table from an earlier life of that version.
4. Loads start while there are slots, model by model in turn; first tries of models that have nothing ready go before
   all others, since their clients get no answer. Within a model new versions go before those that failed before, so
   that a version that never loads cannot hold up one that would.

What clients see of a version that fails: TensorFlow Serving says LOADING until its last retry is over, then END with
the reason. Here there is no last retry while the version is aspired, so END with the reason holds between two attempts,
and LOADING during each. Whoever waits for AVAILABLE or END gets an answer with a reason at the first failure, and at
the slow pace END is what nearly every look finds. `snapshot()` has the last reason also while it is tried again.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import assert_never

from serving_app.core.actions import Action, PublishRoutes, StartLoad, StartUnload
from serving_app.core.door import Door
from serving_app.core.errors import Code
from serving_app.core.events import (
    ConfigApplied,
    DoorsSeen,
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
from serving_app.core.history import Happening
from serving_app.core.news import (
    News,
    compare_active_labels,
    compare_intents,
    compare_waiting,
    describe_move,
)
from serving_app.core.policies import Load, Unload, next_step
from serving_app.core.readers import Readers
from serving_app.core.records import HOLDING_NOTHING, LOADED, ModelRecord, VersionRecord
from serving_app.core.resources import NodeResources, find_largest
from serving_app.core.retries import find_delay
from serving_app.core.routing import ModelRoutes, Route, RouteTable
from serving_app.core.servable import ServableId
from serving_app.core.states import MOVES, Cause, IllegalMove, State
from serving_app.core.views import Failure, ManagerView, ModelView


@dataclass(frozen=True, slots=True)
class ManagerOptions:
    """The limits that the manager keeps."""

    max_concurrent_loads: int = 4
    """Loads under way at one time, over all models."""
    retry_base_s: float = 1.0
    """The wait after the first failed load of a version; each further failure doubles it."""
    retry_max_s: float = 60.0
    """The longest wait before a quick retry."""
    quick_retries: int = 5
    """Retries of a version at that pace."""
    slow_retry_s: float = 300.0
    """The wait before each retry after those."""
    story_length: int = 32
    """Happenings remembered for each version, to be told if the manager makes a mistake."""
    ended_versions_kept: int = 16
    """Ended versions of a model that stay visible; those that ended last are kept."""
    dropped_models_kept: int = 256
    """Models out of the configuration whose ended versions stay visible; those that were dropped last are kept."""

    def __post_init__(self) -> None:
        for name in ("max_concurrent_loads", "story_length"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        for name in ("ended_versions_kept", "dropped_models_kept", "quick_retries"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be 0 or more")
        if not 0 < self.retry_base_s <= self.retry_max_s:
            raise ValueError(
                f"retry_base_s is {self.retry_base_s} and retry_max_s is {self.retry_max_s}; "
                "both must be above 0, and the base not above the maximum"
            )
        if self.slow_retry_s <= 0:
            raise ValueError(f"slow_retry_s is {self.slow_retry_s}; it must be above 0")


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
        self._models: dict[str, ModelRecord] = {}
        self._readers = Readers(revision)
        self._loading: set[ServableId] = set()
        # Ordered sets, so that equal events lead to equal actions.
        self._marked: dict[str, None] = {}  # models to settle
        self._queue: dict[str, bool] = {}  # models that want to load something, in turn; whether they may go before
        self._retired: dict[str, None] = {}  # models of which only ended versions are left, oldest first
        self._wakeups: dict[str, float] = {}  # when the next retry of a model is due
        self._doors: dict[str, tuple[Door, ...]] = {}  # by application, also of those that no route names
        self._are_doors_new = False
        self._largest_nodes: tuple[NodeResources, ...] | None = None  # None: not told yet
        self._orders: list[Action] = []  # not handed out yet
        self._happenings: list[Happening] = []  # likewise
        self._last_order = 0

    def __repr__(self) -> str:
        counts = Counter(each.state.value for model in self._models.values() for each in model.versions.values())
        states = ", ".join(f"{count} {name}" for name, count in counts.items()) or "no versions"
        return (
            f"<Manager revision {self._table.revision}, {len(self._models)} models: {states}; "
            f"{len(self._readers.acknowledged)} readers, {len(self._queue)} models waiting to load>"
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
        return ManagerView(self._table.revision, dict(self._readers.acknowledged), models)

    def view(self, model: str) -> ModelView | None:
        """The same of one model; None if nothing is known of it."""
        return self._models[model].view() if model in self._models else None

    def take_happenings(self) -> list[Happening]:
        """What has happened since the last call, oldest first. To be called after each `handle`: until then it is kept,
        however much it is."""
        taken, self._happenings = self._happenings, []
        return taken

    def handle(self, *events: Event, now: float) -> list[Action]:
        """Take in what has happened and say what is to be done, in that order."""
        for event in events:
            self._absorb(event, now)
        actions: list[Action] = []
        # Publishing can free what waited for it, hence the loop. Each round frees something for good, so it ends.
        while self._started and (
            self._mark_what_changed_by_itself(now) or not self._published or self._are_doors_new
        ):
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
                self._configure(event.models, now)
            case VersionsListed():
                self._take_listing(event, now)
            case ListingFailed():
                self._take_listing_failure(event, now)
            case NodesSeen():
                largest = find_largest(event.nodes)
                if self._largest_nodes != largest:
                    self._largest_nodes = largest
                    self._mark(self._models)
            case LoadProgressed():
                version = self._find(event.servable, event.order)
                if version and version.state is State.LOADING:
                    version.progress = event.message
            case ServableLoaded():
                self._take_loaded(event, Cause.LOADED, event.order, now)
            case ServableMoved():
                self._take_move(event, now)
            case ServableAdopted():
                self._adopt(event.servable, event.path, now)
                self._take_loaded(event, Cause.FOUND_SERVING, None, now)
            case LoadAdopted():
                self._adopt(event.servable, event.path, now)
                self._take_report(event.servable, Cause.FOUND_LOADING, None, now)
            case LoadFailed():
                self._take_failure(event, now)
            case ServableGone():
                version = self._take_report(event.servable, Cause.GONE, event.order, now)
                if version and version.state is State.ENDED:
                    version.route = None
            case DoorsSeen():
                self._take_doors(event)
            case ReaderJoined():
                self._readers.join(event.reader)
            case RoutesAcknowledged():
                self._readers.acknowledge(event.reader, event.revision, self._table.revision)
            case ReaderLeft():
                self._readers.leave(event.reader)
            case Tick():
                self._start()
            case _:
                assert_never(event)

    def _start(self) -> None:
        if self._started:
            return
        self._started = True
        self._mark(self._models)

    def _configure(self, intents: Iterable[ModelIntent], now: float) -> None:
        wanted = {intent.name: intent for intent in intents}
        for name in wanted:
            self._models.setdefault(name, ModelRecord(name))
        for model in self._models.values():
            before, model.intent = model.intent, wanted.get(model.name)
            self._tell_news(model.name, compare_intents(before, model.intent), now)
            model.active_labels = dict(model.active_labels.items() & model.labels.items())
            if model.intent is None:
                # Should the model come back, it may live elsewhere; the old listing says nothing then.
                model.listing = None
                model.listing_failure = None
        self._mark(self._models)

    def _take_listing(self, listing: VersionsListed, now: float) -> None:
        model = self._models.get(listing.model)
        if model is None or model.intent is None:
            return  # The poll began before the model was dropped.
        if model.listing_failure:
            model.listing_failure = None
            self._tell(model.name, None, "its base path can be listed again", now)
        before, unfinished = model.listing, model.find_unfinished()
        model.take_listing(listing)
        if model.listing != before:
            news = compare_waiting(unfinished, model.find_unfinished(), listing.versions, model.find_begun())
            self._tell_news(model.name, news, now)
            self._mark([model.name])

    def _take_listing_failure(self, event: ListingFailed, now: float) -> None:
        model = self._models.get(event.model)
        if model is None or model.intent is None:
            return
        # Messages of stores may differ from poll to poll, by a request's number for one; that is no news.
        if model.listing_failure is None or model.listing_failure.code is not event.code:
            self._tell(
                model.name,
                None,
                f"its base path cannot be listed ({event.code.name}: {event.message}); what is "
                "served goes on, new versions wait",
                now,
            )
        model.listing_failure = Failure(event.code, event.message)

    def _take_loaded(
        self, event: ServableLoaded | ServableAdopted, cause: Cause, order: int | None, now: float
    ) -> None:
        version = self._take_report(event.servable, cause, order, now, f", answered for by {event.app}")
        if version and version.state in LOADED:
            # A repetition must not undo a move.
            version.route = version.route or Route(event.servable, event.app, event.signatures, event.placement)
            version.failures = 0
            version.error = None

    def _take_doors(self, event: DoorsSeen) -> None:
        if event.doors:
            self._doors[event.app] = event.doors
        else:
            self._doors.pop(event.app, None)
        self._are_doors_new = True

    def _take_move(self, event: ServableMoved, now: float) -> None:
        version = self._find(event.servable, event.order)
        route = Route(event.servable, event.app, event.signatures, event.placement)
        if version is None or version.state not in LOADED or version.route == route:
            return
        version.route = route
        what = f"moved, {event.placement.value} from now on, answered for by {event.app}"
        self._tell(event.servable.name, event.servable.version, what, now)
        self._mark([event.servable.name])

    def _take_failure(self, event: LoadFailed, now: float) -> None:
        version = self._find(event.servable, event.order)
        if version is None or version.state is not State.LOADING:
            return  # Every other state has had its answer, or waits for another one: the table of moves agrees.
        delay = self._find_delay(version.failures)
        detail = f" ({event.code.name}: {event.message}); next attempt in {delay:.1f} s if it is still wanted"
        self._take_report(event.servable, Cause.LOAD_FAILED, event.order, now, detail)
        version.error = Failure(event.code, event.message)
        version.retry_at = now + delay
        version.failures += 1
        self._order_removal(version)

    def _find_delay(self, retries_before: int) -> float:
        options = self._options
        return self._jitter(
            find_delay(
                retries_before,
                base_s=options.retry_base_s,
                max_s=options.retry_max_s,
                quick_retries=options.quick_retries,
                slow_s=options.slow_retry_s,
            )
        )

    def _take_report(
        self, servable: ServableId, cause: Cause, order: int | None, now: float, detail: str = ""
    ) -> VersionRecord | None:
        """Move the version that a report is about, and return it, if it is the report's business."""
        version = self._find(servable, order)
        if version is not None:
            self._move(version, cause, now, detail)
            self._mark([servable.name])
        return version

    def _find(self, servable: ServableId, order: int | None) -> VersionRecord | None:
        """The version that a report is about. A report about a version that nobody knows, or about an order that is
        not the newest, is about none."""
        model = self._models.get(servable.name)
        version = model.versions.get(servable.version) if model else None
        return None if version is None or order not in (None, version.order) else version

    def _adopt(self, servable: ServableId, path: str | None, now: float) -> None:
        version = self._find_or_add(servable, now)
        if version.state in HOLDING_NOTHING:
            version.order = 0  # It lives by the order of an earlier manager.
            version.path = path

    def _find_or_add(self, servable: ServableId, now: float) -> VersionRecord:
        versions = self._models.setdefault(servable.name, ModelRecord(servable.name)).versions
        if servable.version not in versions:
            versions[servable.version] = VersionRecord(servable, deque(maxlen=self._options.story_length), since=now)
        return versions[servable.version]

    def _move(self, version: VersionRecord, cause: Cause, now: float, detail: str = "") -> None:
        before = version.state
        after = MOVES.get((before, cause))
        if after is None:
            story = "\n".join(f"{each.at:.3f} {each.what}" for each in version.story)
            raise IllegalMove(str(version.servable), before, cause, story)
        if after is before:
            return
        self._tell(version.servable.name, version.servable.version, describe_move(before, cause) + detail, now)
        version.state = after
        version.since = now
        version.progress = None
        if after is State.LOADING:
            self._loading.add(version.servable)
        else:
            self._loading.discard(version.servable)

    def _mark(self, names: Iterable[str]) -> None:
        self._marked.update(dict.fromkeys(names))

    # Telling people.

    def _tell(self, model: str, version: int | None, what: str, now: float) -> None:
        # In one line: messages of runtimes and stores may have several.
        happening = Happening(now, model, version, " ".join(what.split()))
        self._happenings.append(happening)
        known = self._models[model].versions
        if version in known:
            known[version].story.append(happening)

    def _tell_news(self, model: str, news: News, now: float) -> None:
        for version, what in news:
            self._tell(model, version, what, now)

    def _tell_labels_and_warnings(self, model: ModelRecord, now: float) -> None:
        before, model.active_labels = model.active_labels, model.find_active_labels()
        self._tell_news(model.name, compare_active_labels(before, model.active_labels), now)
        told, model.warnings = model.warnings, model.find_warnings()
        for warning in model.warnings:
            if warning not in told:
                self._tell(model.name, None, f"warning: {warning}", now)

    # Deciding.

    def _mark_what_changed_by_itself(self, now: float) -> bool:
        """Mark models whose retry is due or whose version no reader names any more; say whether any is marked."""
        for name in [name for name, due in self._wakeups.items() if due <= now]:
            del self._wakeups[name]
            self._mark([name])
        released = self._readers.release(self._table.revision)
        self._mark(self._models if released is None else [servable.name for servable in released])
        return bool(self._marked)

    def _is_named(self, servable: ServableId) -> bool:
        """Whether a reader may route to this version, by the newest table or an older one."""
        if self._readers.may_name(servable):
            return True
        model = self._table.models.get(servable.name)
        return model is not None and servable.version in model.routes

    def _settle(self, model: ModelRecord, now: float) -> None:
        """Derive what to do about one model from what is wanted and what is seen."""
        model.aspired = model.find_aspired()
        if model.aspired is not None:
            self._welcome(model, model.aspired, now)
            self._dismiss(model, now)
        self._drain(model, now)
        self._line_up(model, now)
        self._tell_labels_and_warnings(model, now)
        self._forget(model)

    def _welcome(self, model: ModelRecord, aspired: Iterable[int], now: float) -> None:
        """Let aspired versions begin, or begin again."""
        for number in sorted(aspired, reverse=True):
            path = model.find_path(number)
            is_new = number not in model.versions
            version = self._find_or_add(ServableId(model.name, number), now)
            if path is None or version.state not in HOLDING_NOTHING:
                continue
            if is_new:
                self._tell(model.name, number, f"wanted, and found at {path}", now)
            have_files_changed = version.note_files(path, model.find_size(number))
            if version.state is State.ENDED:
                self._move(version, Cause.ASPIRE, now, f", and found at {path}")
                version.failures = 0
                version.error = None
            elif version.state in (State.FAILED, State.UNFIT) and have_files_changed:
                # What went wrong before need not go wrong again.
                self._tell(model.name, number, f"its files have changed; tried again at once, from {path}", now)
                version.failures = 0
                version.retry_at = now
            self._weigh(model, version, now)

    def _weigh(self, model: ModelRecord, version: VersionRecord, now: float) -> None:
        """Set a version aside that fits on no node, and take it back when it does."""
        nodes = self._largest_nodes
        misfit = None if nodes is None else model.find_misfit(version.servable.version, nodes)
        if misfit is None:
            if version.state is State.UNFIT:
                self._move(version, Cause.ADMIT, now)
                version.error = None
            return
        if version.state is not State.UNFIT:
            self._move(version, Cause.REJECT, now, f" ({misfit})")
        version.error = misfit

    def _dismiss(self, model: ModelRecord, now: float) -> None:
        """Let go of unwanted versions that are not loaded."""
        for version in [each for each in model.versions.values() if not model.is_aspired(each)]:
            if version.state is State.NEW:
                self._tell(model.name, version.servable.version, "not wanted any more, and never loaded", now)
                del model.versions[version.servable.version]
            elif version.state in (State.FAILED, State.UNFIT):
                self._move(version, Cause.END, now)
            elif version.state is State.LOADING and not self._is_named(version.servable):
                # The text is TensorFlow Serving's (loader_harness.cc).
                version.error = version.error or Failure(Code.CANCELLED, "Loading of servable cancelled")
                self._unload(version, now)

    def _drain(self, model: ModelRecord, now: float) -> None:
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

    def _find_unwanted(self, model: ModelRecord, now: float) -> set[int]:
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

    def _unload(self, version: VersionRecord, now: float) -> None:
        self._move(version, Cause.UNLOAD, now)
        self._order_removal(version)

    def _order_removal(self, version: VersionRecord) -> None:
        version.order = self._number_order()
        self._orders.append(StartUnload(version.servable, version.order))

    def _number_order(self) -> int:
        self._last_order += 1
        return self._last_order

    def _line_up(self, model: ModelRecord, now: float) -> None:
        """Put the model into the queue for load slots if it wants one, and note when it will want one again."""
        if version := self._find_load(model, now):
            is_mute = not any(each.state is State.READY for each in model.versions.values())
            self._queue[model.name] = is_mute and version.failures == 0
        else:
            self._queue.pop(model.name, None)
        retry = model.find_next_retry(now)
        if retry is None:
            self._wakeups.pop(model.name, None)
        else:
            self._wakeups[model.name] = retry

    def _find_load(self, model: ModelRecord, now: float) -> VersionRecord | None:
        if model.aspired is None:
            return None
        step = next_step(model.policy, model.take_snapshots(now))
        return model.versions[step.version] if isinstance(step, Load) else None

    def _start_loads(self, now: float) -> list[str]:
        """Fill the free slots, one version of a model at a time, and name the models that got one."""
        started = []
        while self._queue and len(self._loading) < self._options.max_concurrent_loads:
            first = next((name for name, goes_before in self._queue.items() if goes_before), next(iter(self._queue)))
            model = self._models[first]
            del self._queue[first]
            version = self._find_load(model, now)
            path = model.find_path(version.servable.version) if version else None
            if version is None or path is None:
                continue
            version.note_files(path, model.find_size(version.servable.version))
            version.order = self._number_order()
            attempt = version.failures + 1
            self._move(version, Cause.LOAD, now, f" from {path} (attempt {attempt})")
            self._orders.append(StartLoad(version.servable, path, attempt, version.order))
            self._line_up(model, now)
            started.append(model.name)
        return started

    def _forget(self, model: ModelRecord) -> None:
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
        doors = self._table.doors
        if changed or self._are_doors_new:
            self._are_doors_new = False
            doors = self._find_doors(changed)
        if not changed and self._published and doors == self._table.doors:
            return []
        models = dict(self._table.models)
        for name, routes in changed.items():
            self._readers.note_change(name, revision, models.pop(name, None), routes)
            if routes is not None:
                models[name] = routes
        self._table = RouteTable(revision, models, doors)
        self._published = True
        return [PublishRoutes(self._table)]

    def _find_doors(self, changed: Mapping[str, ModelRoutes | None]) -> Mapping[str, tuple[Door, ...]]:
        """The doors of what the next table names, which has these models other than the last one."""
        models = {**self._table.models, **changed}.values()
        named = [route.app for model in models if model is not None for route in model.routes.values()]
        return {app: self._doors[app] for app in named if app in self._doors}
