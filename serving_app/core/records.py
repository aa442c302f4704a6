"""What the manager remembers of each model and each version, and what follows from one record alone.

Only the manager changes these records; nothing here has an effect on anything else.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from serving_app.core.errors import Code
from serving_app.core.events import ModelIntent, VersionsListed
from serving_app.core.history import Happening
from serving_app.core.policies import (
    AspiredVersionPolicy,
    AvailabilityPreserving,
    Specific,
    VersionSnapshot,
    aspired_versions,
)
from serving_app.core.resources import NodeResources, find_misfit
from serving_app.core.routing import ModelRoutes, Route, VersionStatus
from serving_app.core.servable import ServableId
from serving_app.core.states import PublicState, State, public_state
from serving_app.core.views import Failure, ModelView, VersionView

LOADED = frozenset({State.READY, State.DRAINING})
"""The states in which a version could answer."""

BEGUN = LOADED | {State.LOADING}
"""And the state that leads there."""

HOLDING_NOTHING = frozenset({State.NEW, State.FAILED, State.UNFIT, State.ENDED})
"""The states in which nothing of a version is there and nothing is ordered."""


@dataclass(slots=True)
class VersionRecord:
    """One version, in one of its lives or between them."""

    servable: ServableId
    story: deque[Happening] = field(repr=False)  # the last that happened to it
    since: float
    state: State = State.NEW
    order: int = 0  # the newest one about it; 0 if that was an earlier manager's, or there was none
    path: str | None = None  # where its files are, or were when it was loaded
    size: int | None = None  # how many bytes they had in all, as far as that is known
    route: Route | None = None  # while loaded
    progress: str | None = None  # while loading
    failures: int = 0  # in a row
    error: Failure | None = None  # the last one, until a load succeeds or the version starts over
    retry_at: float = 0.0  # while failed

    def status(self) -> VersionStatus:
        """What a client of GetModelStatus sees."""
        public = public_state(self.state)
        if public is PublicState.END and self.error:
            return VersionStatus(self.servable.version, public, self.error.code, self.error.message)
        return VersionStatus(self.servable.version, public)

    def note_files(self, path: str, size: int | None) -> bool:
        """Note where the files are and how large, while nothing is loaded; say whether they are others than before."""
        has_moved = self.path not in (None, path)
        has_changed = None not in (self.size, size) and self.size != size
        self.path, self.size = path, size
        return has_moved or has_changed


@dataclass(slots=True)
class ModelRecord:
    """One model that is in the configuration, or was."""

    name: str
    intent: ModelIntent | None = None  # None: out of the configuration
    listing: VersionsListed | None = None  # None: not listed since it is in the configuration
    listing_failure: Failure | None = None
    aspired: frozenset[int] | None = None  # as of the last time that the model was settled
    versions: dict[int, VersionRecord] = field(default_factory=dict)
    active_labels: Mapping[str, int] = field(default_factory=dict)  # as of the last time that it was settled
    warnings: tuple[str, ...] = ()  # likewise

    @property
    def policy(self) -> AspiredVersionPolicy:
        """How to get from what is loaded to what is aspired."""
        return self.intent.aspired_policy if self.intent else AvailabilityPreserving()

    @property
    def labels(self) -> Mapping[str, int]:
        """The labels that are configured, whether or not their versions are ready."""
        return self.intent.labels if self.intent else {}

    @property
    def is_over(self) -> bool:
        """Whether there is nothing left to do about it, nor ever will be unless it comes back."""
        return self.intent is None and all(each.state is State.ENDED for each in self.versions.values())

    def take_listing(self, listing: VersionsListed) -> None:
        """Keep what was listed. A size that was known stays known as long as the version stays where it is."""
        old = self.listing or VersionsListed(self.name, {})
        stayed = {number for number, path in listing.versions.items() if old.versions.get(number) == path}
        sizes = {number: size for number, size in old.sizes.items() if number in stayed} | dict(listing.sizes)
        self.listing = replace(listing, versions=dict(listing.versions), waiting=dict(listing.waiting), sizes=sizes)

    def find_aspired(self) -> frozenset[int] | None:
        """The versions to be served; None when nobody can know yet.

        A version whose load was ordered counts as found although its files look unfinished now: they were finished
        then, and a restarted shell has to watch young files for a moment before it can say so again.
        """
        if self.intent is None:
            return frozenset()
        if self.listing is None:
            return None
        found = self.listing.versions.keys() | (self.listing.waiting.keys() & self.find_begun())
        return aspired_versions(self.intent.version_policy, found, self.intent.named)

    def find_coming(self) -> set[int]:
        """The versions that are to be served once they are finished, and of which nothing was begun before."""
        if self.intent is None or self.listing is None:
            return set()
        waiting = self.listing.waiting.keys()
        found = self.listing.versions.keys() | waiting
        picks = aspired_versions(self.intent.version_policy, found, self.intent.named)
        return set(picks & waiting) - self.find_begun()

    def find_unfinished(self) -> dict[int, str]:
        """Why versions are not finished, without those whose load is under way: they were finished when it began, and
        a restarted shell that does not know this yet has no news of them."""
        loading = {number for number, version in self.versions.items() if version.state is State.LOADING}
        waiting = self.listing.waiting if self.listing else {}
        return {number: why for number, why in waiting.items() if number not in loading}

    def find_begun(self) -> set[int]:
        """The versions that could answer, or will unless their load fails."""
        return {number for number, version in self.versions.items() if version.state in BEGUN}

    def is_aspired(self, version: VersionRecord) -> bool:
        """Whether the version is to be served, as of the last time that the model was settled."""
        return self.aspired is not None and version.servable.version in self.aspired

    def find_path(self, number: int) -> str | None:
        """Where a finished version lies."""
        return self.listing.versions.get(number) if self.listing else None

    def find_size(self, number: int) -> int | None:
        """The bytes of a version's files, as far as they are known."""
        return self.listing.sizes.get(number) if self.listing else None

    def find_misfit(self, number: int, largest: Sequence[NodeResources]) -> Failure | None:
        """Why no node, of which these are the largest, could ever hold a replica of a version; None if one could."""
        if self.intent is None:
            return None
        demand = self.intent.demand
        size = self.find_size(number)
        estimate = ""
        if demand.memory is None and size is not None:
            demand = replace(demand, memory=int(size * self.intent.memory_factor))
            estimate = f" Its memory is estimated as {self.intent.memory_factor:g} times the size of its files."
        misfit = find_misfit(demand, largest)
        if misfit is None:
            return None
        # The text up to the colon is TensorFlow Serving's (basic_manager.cc).
        return Failure(
            Code.RESOURCE_EXHAUSTED,
            f"Insufficient resources to load servable {{name: {self.name} version: {number}}}: {misfit}.{estimate} "
            "It is loaded as soon as a node could hold it: add a larger one, or lower what the model reserves",
        )

    def find_warnings(self) -> tuple[str, ...]:
        """What a person should know: what the store's listing says, and versions that were asked for and are not there.

        Nothing is missed before the first listing.
        """
        if self.intent is None or self.listing is None:
            return ()
        policy = self.intent.version_policy
        known = self.listing.versions.keys() | self.listing.waiting.keys()
        missing = [each for each in policy.versions if each not in known] if isinstance(policy, Specific) else []
        return self.listing.warnings + tuple(
            f"version {number} is asked for by the version policy and is not under the base path; bring it, or take it "
            "out of the policy"
            for number in dict.fromkeys(missing)
        )

    def find_active_labels(self) -> Mapping[str, int]:
        """The labels whose versions are ready."""
        ready = {number for number, version in self.versions.items() if version.state is State.READY}
        return {label: number for label, number in self.labels.items() if number in ready}

    def find_retry(self, now: float) -> VersionRecord | None:
        """The aspired failed version whose next attempt has been due for the longest time."""
        due = [each for each in self._failed() if each.retry_at <= now]
        return min(due, key=lambda each: (each.retry_at, -each.servable.version), default=None)

    def find_next_retry(self, now: float) -> float | None:
        """When an aspired failed version will be due that is not due yet."""
        return min((each.retry_at for each in self._failed() if each.retry_at > now), default=None)

    def _failed(self) -> list[VersionRecord]:
        return [each for each in self.versions.values() if each.state is State.FAILED and self.is_aspired(each)]

    def take_snapshots(self, now: float) -> list[VersionSnapshot]:
        """The versions as a policy should see them.

        A failed one whose next attempt is due counts as new, one at a time and only when nothing is really new. One
        whose files are not finished yet counts as a load under way: it is about to come, so what serves until then
        must not go for want of anything aspired.
        """
        coming = self.find_coming()
        versions = [each for each in self.versions.values() if each.servable.version not in coming]
        snapshots = [VersionSnapshot(each.servable.version, each.state, self.is_aspired(each)) for each in versions]
        snapshots += [VersionSnapshot(number, State.LOADING, aspired=True) for number in sorted(coming)]
        if any(each.state is State.NEW and each.aspired for each in snapshots):
            return snapshots
        retry = self.find_retry(now)
        if retry is None:
            return snapshots
        number = retry.servable.version
        return [replace(each, state=State.NEW) if each.version == number else each for each in snapshots]

    def make_routes(self) -> ModelRoutes:
        """What readers need to know of the model."""
        newest_first = self._sort_newest_first()
        ready = [each for each in newest_first if each.state is State.READY]
        return ModelRoutes(
            routes={each.servable.version: each.route for each in ready if each.route},
            labels=dict(self.labels),
            statuses=tuple(each.status() for each in newest_first),
            traffic=dict(self.intent.traffic) if self.intent else {},
        )

    def view(self) -> ModelView:
        """What people may want to know of the model."""
        return ModelView(
            name=self.name,
            configured=self.intent is not None,
            aspired=self.aspired,
            listing_failure=self.listing_failure,
            versions=tuple(self._view_version(each) for each in self._sort_newest_first()),
            waiting=self.find_unfinished(),
            warnings=self.warnings,
            labels=dict(self.labels),
            traffic=dict(self.intent.traffic) if self.intent else {},
        )

    def _sort_newest_first(self) -> list[VersionRecord]:
        return [self.versions[number] for number in sorted(self.versions, reverse=True)]

    def _view_version(self, version: VersionRecord) -> VersionView:
        aspired = self.is_aspired(version)
        return VersionView(
            servable=version.servable,
            state=version.state,
            since=version.since,
            aspired=None if self.aspired is None else aspired,
            path=version.path,
            app=version.route.app if version.route else None,
            placement=version.route.placement if version.route else None,
            failures=version.failures,
            error=version.error,
            retry_at=version.retry_at if aspired and version.state is State.FAILED else None,
            progress=version.progress,
            size=version.size if (size := self.find_size(version.servable.version)) is None else size,
        )
