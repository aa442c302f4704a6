"""The colocated versions of one serving app: what every gateway is to hold, and which of it they do.

To the manager the gateways together are one place where a version is loaded and unloaded:

- a version is loaded when each *member* holds it, and at least one does. A member is a gateway that takes traffic;
- one member loads it first, its *pioneer*, and the others when that one holds it. So a version that takes its process
  down while it loads takes one gateway, and the load has failed when that gateway is missed;
- a load that fails in one member has failed, and the order to unload that follows takes it away from the others;
- it is gone when no gateway holds it any more, member or not.

A gateway that comes is told to hold what serves, and nothing that was never seen to load, and becomes a member at the
moment at which it holds all of that. So whatever the route table names, each gateway that takes traffic can answer it.
One that cannot hold what others hold is not admitted and told why. Where there are no others, and one that comes cannot
load a version that served, nobody can: the version is told as gone, and the manager has it tried again. The same
happens when such gateways die one after the other.

When a gateway dies while it loads several versions, each of them may be the reason, and is loaded alone the next time.

A gateway that goes, or is silent for as long as a follower of the route table may be, is waited for no more.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from serving_app.config import ModelConfig
from serving_app.core import events
from serving_app.core.actions import StartLoad, StartUnload
from serving_app.core.batching import BatchingChoice
from serving_app.core.errors import Code, Internal, ServingError
from serving_app.core.placement import Placement
from serving_app.core.servable import ServableId
from serving_app.core.signatures import Signature
from serving_app.core.views import Failure
from serving_app.host import Assignment
from serving_app.serve.assignments import batching_of
from serving_app.serve.fleet import Order
from serving_app.serve.followers import POLL_S
from serving_app.serve.holdings import UNKNOWN, Admission, Holding, Orders
from serving_app.serve.roster import Entry, Roster

logger = logging.getLogger("serving_app.controller")

_MOST_DROPPED = 1000
"""Of so many versions it is remembered when they were dropped; a gateway that was away for longer begins anew."""

_MOST_DEATHS = 3
"""So many gateways may die while they load what served, where nobody else holds it, before it is given up."""

_DIED = Failure(
    Code.UNAVAILABLE,
    "a gateway died while it loaded this version: it crashed, ran out of memory, or was killed. Its log may say more; "
    "with `placement: dedicated` such a version takes no other with it",
)

MakeAssignment = Callable[[ServableId, str, ModelConfig], Assignment]
"""What a gateway is told to hold of a version: which one, from where, with which settings."""


@dataclass
class _Version:
    """A version that gateways are to hold."""

    servable: ServableId
    ticket: str
    since: int  # the number of the orders that named it first
    order: int  # the manager's; 0 if an earlier controller was given it
    path: str
    model: ModelConfig
    assignment: Assignment
    deadline: float
    signatures: Mapping[str, Signature] = field(default_factory=dict)
    is_serving: bool = False
    pioneer: str | None = None  # the gateway that loads it first
    is_proven: bool = False  # some gateway holds it or has held it
    deaths: int = 0  # of gateways that loaded it
    failure: Failure | None = None  # found out without a gateway that tells
    batched_since: int = 0  # the number of the orders that changed how it is batched
    told: str = ""


@dataclass
class _Gateway:
    """A gateway that follows the orders. `has` is everything of which it may have anything."""

    is_member: bool = False
    admitted: int = 0  # the number of the orders that name what only members are to hold
    has: dict[str, ServableId] = field(default_factory=dict)
    held: set[str] = field(default_factory=set)
    failed: dict[str, Failure] = field(default_factory=dict)


class Colony:
    """What gateways hold. Lives on one event loop; events go to `emit`."""

    def __init__(
        self,
        app: str,
        find_model: Callable[[str], ModelConfig],
        assign: MakeAssignment,
        emit: Callable[[events.Event], None],
        *,
        is_settled: Callable[[], bool] = lambda: True,
        poll_s: float = POLL_S,
        number: int | None = None,
    ) -> None:
        """`find_model` gives a model's settings, or raises a ServingError. While `is_settled` says no there may be
        members that are not known yet, so no load counts as done."""
        self._app = app
        self._find_model = find_model
        self._assign = assign
        self._emit = emit
        self._is_settled = is_settled
        self._poll_s = poll_s
        self._roster = Roster(app, "colocated")
        # Gateways compare numbers across restarts of the controller: those of a new one are above all earlier ones.
        self._number = self._first = time.time_ns() // 1_000_000 if number is None else number
        self._orders: asyncio.Queue[Order] = asyncio.Queue()
        self._versions: dict[ServableId, _Version] = {}
        self._dropped: dict[str, int] = {}  # tickets, and the number of the orders that dropped them
        self._unloading: dict[ServableId, int] = {}  # and the order that removes each
        self._suspects: set[ServableId] = set()  # loads during which a gateway died
        self._gateways: dict[str, _Gateway] = {}
        self._news = asyncio.Event()
        self._stirred = asyncio.Event()

    # Orders of the manager.

    def order(self, order: Order) -> None:
        """Have this done, after everything that was ordered before."""
        self._orders.put_nowait(order)
        self._stirred.set()

    async def work(self) -> None:
        """Carry out orders and tell what came of them, for ever."""
        while True:
            await self._stirred.wait()
            self._stirred.clear()
            while not self._orders.empty():
                order = self._orders.get_nowait()
                if isinstance(order, StartUnload):
                    await self._unload(order)
                else:
                    self._load(order)
            await self._settle()

    def stir(self) -> None:
        """Look again at what may have changed by itself: time that is up, for one."""
        self._stirred.set()

    def follow_batching(self) -> None:
        """The settings have changed: have versions batched as they say now, without a reload."""
        for version in self._versions.values():
            try:
                choice = batching_of(self._find_model(version.servable.name))
            except ServingError:  # dropped from the configuration; its removal is about to be ordered
                continue
            if choice != _choice(version):
                self._number += 1
                version.batched_since = self._number
                version.assignment = replace(
                    version.assignment, batching=choice.limits, batching_from_version=choice.from_version
                )
                self._spread()

    def forget(self) -> None:
        """The app is deleted: nothing is kept of what served. Blocks."""
        self._roster.forget()

    async def adopt(self) -> int:
        """Take over what served under an earlier controller, and say how much that is: the gateways hold it still."""
        for servable, entry in (await asyncio.to_thread(self._roster.read)).items():
            assert entry.model is not None, f"{servable} was entered without its settings"
            assignment = self._assign(servable, entry.path, entry.model)
            self._number += 1
            self._versions[servable] = _Version(
                servable, entry.ticket, self._number, 0, entry.path, entry.model, assignment, 0.0, entry.signatures,
                is_serving=True, is_proven=True,
            )
            self._emit(
                events.ServableAdopted(servable, self._app, entry.signatures, entry.path, Placement.COLOCATED)
            )
        return len(self._versions)

    def _load(self, orders: Sequence[StartLoad]) -> None:
        for order in orders:
            servable = order.servable
            try:
                model = self._find_model(servable.name)
                assignment = self._assign(servable, order.path, model)
            except Exception as error:
                logger.exception("ordering the load of %s failed", servable)
                failure = error if isinstance(error, ServingError) else Internal(f"{type(error).__name__}: {error}")
                self._emit(events.LoadFailed(servable, failure.code, failure.message, order.order))
                continue
            self._number += 1
            deadline = time.monotonic() + model.load_timeout_s
            self._versions[servable] = _Version(
                servable, uuid.uuid4().hex, self._number, order.order, order.path, model, assignment, deadline
            )
        self._spread()

    async def _unload(self, order: StartUnload) -> None:
        await asyncio.to_thread(self._roster.strike, order.servable)
        self._drop(order.servable)
        self._unloading[order.servable] = order.order

    def _drop(self, servable: ServableId) -> None:
        version = self._versions.pop(servable, None)
        if version is not None:
            self._number += 1
            self._dropped[version.ticket] = self._number
            while len(self._dropped) > _MOST_DROPPED:
                self._first = self._dropped.pop(next(iter(self._dropped)))
            self._offer_waiting()

    def _spread(self) -> None:
        """Wake all who wait for news."""
        self._news.set()
        self._news = asyncio.Event()

    # Calls of gateways.

    async def poll(self, gateway: str, have: int) -> Orders | None:
        """Long poll: what came after the orders of this number, or None when there is nothing for a while."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._poll_s):
                while gateway in self._gateways and have == self._number:
                    await self._news.wait()
        known = self._gateways.get(gateway)
        if known is None or 0 <= have < self._first or have > self._number:
            self._gateways.pop(gateway, None)
            return UNKNOWN
        if have == self._number:
            return None
        orders = Orders(
            self._number,
            {
                each.ticket: each.assignment
                for each in self._versions.values()
                if max(each.since, known.admitted) > have
                and (have < 0 or each.ticket not in known.held)
                and self._may_hold(gateway, known, each)
            },
            tuple(ticket for ticket, number in self._dropped.items() if number > have) if have >= 0 else (),
            is_all=have < 0,
            batching={each.ticket: _choice(each) for each in self._versions.values() if each.batched_since > have},
        )
        known.has.update({ticket: assignment.servable for ticket, assignment in orders.hold.items()})
        return orders

    def _may_hold(self, name: str, gateway: _Gateway, version: _Version) -> bool:
        """Whether this gateway is to hold a version now; the first that asks for one becomes its pioneer."""
        if version.is_serving or version.ticket in gateway.has:
            return True
        if not gateway.is_member:
            return False
        if version.pioneer is None and self._may_begin(version):
            version.pioneer = name
        return version.is_proven or version.pioneer == name

    def _may_begin(self, version: _Version) -> bool:
        """What a gateway may have died of is loaded while nothing else is, so that the next death tells."""
        loading = [each.servable for each in self._versions.values() if each.pioneer and not each.is_proven]
        return not loading if version.servable in self._suspects else self._suspects.isdisjoint(loading)

    def _offer_waiting(self) -> None:
        """A load has ended, or lost its pioneer: others may begin."""
        self._number += 1
        for version in self._versions.values():
            if version.pioneer is None and not version.is_proven:
                version.since = self._number
        self._spread()

    async def tell(self, gateway: str, told: Sequence[Holding], *, is_all: bool, is_member: bool) -> bool:
        """A gateway tells what became of tickets; with `is_all` of all that it knows, and whether it was admitted once.

        False if it is not known here, and has to tell all.
        """
        if is_all:
            self._gateways[gateway] = _Gateway(is_member)
            self._spread()  # a poll of its that still waits is of an earlier life
        known = self._gateways.get(gateway)
        if known is None:
            return False
        for each in told:
            _note(known, each)
        for each in told:
            version = self._versions.get(each.servable)
            if version is not None and version.ticket == each.ticket and each.signatures is not None:
                version.signatures = each.signatures
                self._prove(version)
        self._spread()
        self._stirred.set()
        return True

    def _prove(self, version: _Version) -> None:
        """A gateway holds it, so that others may try."""
        version.deaths = 0
        self._suspects.discard(version.servable)
        if not version.is_proven:
            version.is_proven = True
            self._offer_waiting()
            version.since = self._number

    async def tell_progress(self, ticket: str, message: str) -> None:
        """A gateway tells how far a load is."""
        for version in self._versions.values():
            if version.ticket == ticket and not version.is_serving and version.told != message:
                version.told = message
                self._emit(events.LoadProgressed(version.servable, message, version.order))

    async def admit(self, gateway: str) -> Admission:
        """Long poll: a gateway wants to take traffic. Neither admitted nor refused means that it is to ask again."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._poll_s):
                while True:
                    admission = self._consider(gateway)
                    if admission is not None:
                        return admission
                    await self._news.wait()
        return Admission()

    def _consider(self, gateway: str) -> Admission | None:
        known = self._gateways.get(gateway)
        if known is None:
            return Admission(is_known=False)
        missing = [each for each in self._versions.values() if each.is_serving and each.ticket not in known.held]
        if not missing:
            if not known.is_member:
                known.is_member = True
                self._number += 1
                known.admitted = self._number
                self._spread()
            self._stirred.set()
            return Admission(is_admitted=True)
        for version in missing:
            # Where there are no members, the version is about to be given up instead.
            if (failure := known.failed.get(version.ticket)) and self._members:
                return Admission(failure=Failure(failure.code, f"{version.servable}: {failure.message}"))
        return None

    def keep_only(self, is_there: Callable[[str], bool]) -> None:
        """Wait no more for gateways that are not there: whoever goes in peace says good-bye, so they have died."""
        pioneers = {each.pioneer for each in self._versions.values() if each.pioneer and not each.is_proven}
        for name in [name for name in self._gateways.keys() | pioneers if not is_there(name)]:
            if name in self._gateways:
                self._blame(self._gateways[name])
            self.leave(name)

    def _blame(self, dead: _Gateway) -> None:
        """What a gateway loaded when it died may be the reason."""
        dead.is_member = False
        for version in self._versions.values():
            if version.ticket not in dead.has.keys() - dead.held - dead.failed.keys():
                continue
            version.deaths += 1
            if not version.is_serving or (version.deaths >= _MOST_DEATHS and not self._members):
                version.failure = _DIED
                self._suspects.add(version.servable)

    def leave(self, gateway: str) -> None:
        """The gateway is gone."""
        self._gateways.pop(gateway, None)
        for version in self._versions.values():
            if version.pioneer == gateway and not version.is_proven:
                version.pioneer = None
        self._offer_waiting()
        self._stirred.set()

    # What came of it.

    @property
    def _members(self) -> list[_Gateway]:
        return [each for each in self._gateways.values() if each.is_member]

    async def _settle(self) -> None:
        for version in list(self._versions.values()):
            if version.is_serving:
                await self._give_up_if_nobody_can(version)
            elif (failure := self._find_failure(version)) is not None:
                if failure is not _DIED:
                    self._suspects.discard(version.servable)
                self._emit(events.LoadFailed(version.servable, failure.code, failure.message, version.order))
                self._drop(version.servable)
            elif self._is_held(version):
                entry = Entry(version.signatures, version.path, version.ticket, version.model)
                await asyncio.to_thread(self._roster.enter, version.servable, entry)
                # Meanwhile another gateway may have become a member.
                if self._is_held(version):
                    version.is_serving = True
                    self._number += 1
                    version.since = self._number  # those who are no members yet are to hold it, too
                    self._emit(
                        events.ServableLoaded(
                            version.servable, self._app, version.signatures, version.order, Placement.COLOCATED
                        )
                    )
                    self._spread()
        for servable, order in list(self._unloading.items()):
            if not any(servable in gateway.has.values() for gateway in self._gateways.values()):
                del self._unloading[servable]
                self._emit(events.ServableGone(servable, order))

    def _is_held(self, version: _Version) -> bool:
        members = self._members
        return bool(members) and self._is_settled() and all(version.ticket in each.held for each in members)

    def _find_failure(self, version: _Version) -> Failure | None:
        if version.failure is not None:
            return version.failure
        for gateway in self._members:
            if version.ticket in gateway.failed:
                return gateway.failed[version.ticket]
        if time.monotonic() <= version.deadline:
            return None
        if not self._members:
            return Failure(Code.DEADLINE_EXCEEDED, "not loaded within load_timeout_s: no gateway is up")
        heard = f"; the last that was heard of it: {version.told}" if version.told else ""
        return Failure(Code.DEADLINE_EXCEEDED, f"not loaded by every gateway within load_timeout_s{heard}")

    async def _give_up_if_nobody_can(self, version: _Version) -> None:
        failed = [each.failed[version.ticket] for each in self._gateways.values() if version.ticket in each.failed]
        failed += [version.failure] if version.failure is not None else []
        if failed and not self._members:
            logger.warning("%s is held by no gateway any more, and cannot be loaded: %s", version.servable, failed[0])
            await asyncio.to_thread(self._roster.strike, version.servable)
            self._drop(version.servable)
            self._emit(events.ServableGone(version.servable, version.order))


def _choice(version: _Version) -> BatchingChoice:
    return BatchingChoice(version.assignment.batching, version.assignment.batching_from_version)


def _note(gateway: _Gateway, told: Holding) -> None:
    if told.is_gone:
        gateway.has.pop(told.ticket, None)
        gateway.held.discard(told.ticket)
        gateway.failed.pop(told.ticket, None)
        return
    gateway.has[told.ticket] = told.servable
    if told.signatures is not None:
        gateway.held.add(told.ticket)
    elif told.failure is not None:
        gateway.failed[told.ticket] = told.failure
