"""Where each version lives, and how one moves from one place to another without a gap.

The manager orders loads and unloads, and does not care where. Here each order goes to the place that the model's
settings name: the fleet, where a version has replicas of its own, or the colony, where every gateway holds it. What the
places tell goes to the manager, as if there was one.

When a model's placement changes, each version of it that serves moves:

1. It is loaded at the new place as well. Where it is it goes on answering, also if that load fails, which is then tried
   again with growing pauses.
2. When it is loaded, the manager is told, and publishes a table that names the new place.
3. When no reader of the tables follows an older one any more, it is removed at the old place.

An order to unload ends a move at any point: the version goes from both places. A version whose load is under way is
loaded where that was begun, and moves then.

Everything is derived anew from what is wanted and what is there, so it does not matter when the settings change.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol

from serving_app.core import events
from serving_app.core.actions import StartLoad, StartUnload
from serving_app.core.placement import Placement
from serving_app.core.servable import ServableId
from serving_app.serve.fleet import Order

logger = logging.getLogger("serving_app.controller")

FIRST_RETRY_S, LAST_RETRY_S = 2.0, 300.0
"""Pauses before a move that failed is tried again; each is twice the one before."""


_MOST_MOVES = 4
"""Versions that are loaded at one time because they move, over all models."""


class Place(Protocol):
    """Where versions are loaded and unloaded; what came of an order is told by events."""

    def order(self, order: Order) -> None:
        """Have this done, after everything that was ordered before."""
        ...


class _Move(Enum):
    """What is at the place where a version does not live."""

    LOADING = "the version is loaded there, and will live there"
    LEAVING = "the version lived there, and somebody may still ask it there"
    CLEARING = "the removal of what is there is ordered"


@dataclass
class _Site:
    """One version, in one of its lives."""

    home: Placement
    order: int  # of its load; 0 if an earlier controller was given that
    is_serving: bool = False
    unload: int | None = None  # the order to unload it, once there is one
    others: dict[Placement, _Move] = field(default_factory=dict)
    is_at_home: bool = True
    held_back: StartLoad | None = None  # until nothing is left of this life
    pause_s: float = FIRST_RETRY_S
    retry: asyncio.TimerHandle | None = None


class Sites:
    """The places of all versions of one app. Lives on one event loop; events for the manager go to `emit`."""

    def __init__(
        self,
        find_placement: Callable[[str], Placement | None],
        find_path: Callable[[ServableId], str | None],
        emit: Callable[[events.Event], None],
        *,
        wait_for_readers: Callable[[], Awaitable[None]],
        spawn: Callable[[Coroutine[Any, Any, None]], object],
        tell_problem: Callable[[str, str | None], None] = lambda subject, problem: None,
    ) -> None:
        """`find_placement` gives what a model's settings say, None for one that is not configured; `find_path` where a
        version that serves was loaded from. `wait_for_readers` returns when no reader follows a table that is older
        than everything emitted before."""
        self._find_placement = find_placement
        self._find_path = find_path
        self._emit = emit
        self._wait_for_readers = wait_for_readers
        self._spawn = spawn
        self._tell_problem = tell_problem
        self._places: Mapping[Placement, Place] = {}
        self._sites: dict[ServableId, _Site] = {}
        self._waiting: dict[ServableId, None] = {}  # to move, in turn
        self._found: dict[ServableId, dict[Placement, events.ServableAdopted | events.LoadAdopted]] | None = None

    def open(self, places: Mapping[Placement, Place]) -> None:
        """Have these places, whose events go to `take`."""
        self._places = places

    # Orders.

    def order(self, order: Order) -> None:
        """Have an order of the manager carried out."""
        if isinstance(order, StartUnload):
            self._unload(order)
            return
        loads: dict[Placement, list[StartLoad]] = {}
        for load in order:
            site = self._sites.get(load.servable)
            if site is not None:
                site.held_back = load
                continue
            home = self._find_placement(load.servable.name) or Placement.DEDICATED
            self._sites[load.servable] = _Site(home, load.order)
            loads.setdefault(home, []).append(load)
        for home, together in loads.items():
            self._places[home].order(together)

    def follow(self, models: Mapping[str, object] | None = None) -> None:
        """The settings of these models have changed, or of any: have versions move that live elsewhere now."""
        for servable in list(self._sites):
            if models is None or servable.name in models:
                self._reconcile(servable)

    def _unload(self, order: StartUnload) -> None:
        site = self._sites.get(order.servable)
        if site is None:  # where something is of which nobody told, or nothing
            site = self._sites[order.servable] = _Site(Placement.DEDICATED, order.order)
            site.others = {Placement.COLOCATED: _Move.LEAVING}
        site.unload = order.order
        site.is_serving = False
        site.held_back = None
        self._stop_retrying(order.servable, site)
        if site.is_at_home:
            self._places[site.home].order(order)
        for placement, move in list(site.others.items()):
            if move is not _Move.CLEARING:
                self._clear(order.servable, site, placement)
        self._end_if_empty(order.servable, site)

    # What the places tell.

    def take(self, placement: Placement, event: events.Event) -> None:
        """Something has happened at a place."""
        match event:
            case events.ServableAdopted() | events.LoadAdopted():
                self._adopt(placement, event)
            case events.ServableLoaded():
                self._take_loaded(placement, event)
            case events.LoadFailed():
                self._take_failure(placement, event)
            case events.ServableGone():
                self._take_gone(placement, event)
            case events.LoadProgressed():
                site = self._sites.get(event.servable)
                if site is not None and site.home is placement:
                    self._emit(event)
            case _:
                self._emit(event)

    def _take_loaded(self, placement: Placement, event: events.ServableLoaded) -> None:
        site = self._sites.get(event.servable)
        if site is None or site.unload is not None:
            return  # it crossed the order to unload
        if site.home is placement:
            site.is_serving = True
            self._emit(event)
            self._reconcile(event.servable)
        elif site.others.get(placement) is _Move.LOADING:
            left, site.home = site.home, placement
            site.others = {left: _Move.LEAVING}
            self._stop_retrying(event.servable, site)
            logger.info("%s has moved and is %s now", event.servable, placement.value)
            self._emit(
                events.ServableMoved(event.servable, event.app, event.signatures, event.placement, site.order)
            )
            self._spawn(self._leave(event.servable, site, left))
            self._begin_waiting()

    async def _leave(self, servable: ServableId, site: _Site, left: Placement) -> None:
        await self._wait_for_readers()
        if self._sites.get(servable) is site and site.others.get(left) is _Move.LEAVING:
            self._clear(servable, site, left)

    def _take_failure(self, placement: Placement, event: events.LoadFailed) -> None:
        site = self._sites.get(event.servable)
        if site is None or site.home is placement:
            self._emit(event)
        elif site.others.get(placement) is _Move.LOADING:
            text = (
                f"{event.servable} is to be {placement.value} and cannot be loaded there ({event.code.name}: "
                f"{event.message}); it goes on as it is, and is tried again in {site.pause_s:g} s"
            )
            logger.warning("%s", text)
            self._tell_problem(_problem(event.servable), text)
            self._clear(event.servable, site, placement)
            loop = asyncio.get_running_loop()
            site.retry = loop.call_later(site.pause_s, self._retry, event.servable, site)
            site.pause_s = min(2 * site.pause_s, LAST_RETRY_S)

    def _retry(self, servable: ServableId, site: _Site) -> None:
        site.retry = None
        if self._sites.get(servable) is site:
            self._reconcile(servable)

    def _take_gone(self, placement: Placement, event: events.ServableGone) -> None:
        site = self._sites.get(event.servable)
        if site is None:
            self._emit(event)
            return
        if site.home is placement:
            site.is_at_home = False
            if site.unload is None:
                # Uncalled for: the version is over, whatever was begun elsewhere, and the next life waits for that.
                self._emit(event)
                site.is_serving = False
                self._stop_retrying(event.servable, site)
                for other, move in list(site.others.items()):
                    if move is not _Move.CLEARING:
                        self._clear(event.servable, site, other)
        elif site.others.get(placement) is not None:
            del site.others[placement]
        self._end_if_empty(event.servable, site)
        self._reconcile(event.servable)

    def _end_if_empty(self, servable: ServableId, site: _Site) -> None:
        """When nothing is left of this life, the next one may begin."""
        if site.is_at_home or site.others:
            return
        del self._sites[servable]
        if site.unload is not None:
            self._emit(events.ServableGone(servable, site.unload))
        if site.held_back is not None:
            self.order([site.held_back])

    # Moves.

    def _reconcile(self, servable: ServableId) -> None:
        """Begin, or call off, what brings a version that serves to where it is to live."""
        site = self._sites.get(servable)
        wanted = self._find_placement(servable.name)
        if site is None or not site.is_serving or site.unload is not None or wanted is None:
            return
        if wanted is site.home:
            self._stop_retrying(servable, site)
            for placement, move in list(site.others.items()):
                if move is _Move.LOADING:
                    self._clear(servable, site, placement)
        elif site.others or site.retry is not None:
            return  # one thing after the other
        elif sum(_Move.LOADING in each.others.values() for each in self._sites.values()) >= _MOST_MOVES:
            self._waiting[servable] = None
        elif (path := self._find_path(servable)) is not None:
            logger.info("%s is to be %s from now on; loading it there", servable, wanted.value)
            site.others[wanted] = _Move.LOADING
            self._places[wanted].order([StartLoad(servable, path, 1, site.order)])

    def _begin_waiting(self) -> None:
        """A move has ended, so that another one may begin."""
        waiting, self._waiting = self._waiting, {}
        for servable in waiting:
            self._reconcile(servable)

    def _clear(self, servable: ServableId, site: _Site, placement: Placement) -> None:
        was_loading = site.others.get(placement) is _Move.LOADING
        site.others[placement] = _Move.CLEARING
        self._places[placement].order(StartUnload(servable, site.unload or site.order))
        if was_loading:
            self._begin_waiting()

    def _stop_retrying(self, servable: ServableId, site: _Site) -> None:
        if site.retry is not None:
            site.retry.cancel()
            site.retry = None
        if site.pause_s != FIRST_RETRY_S:
            site.pause_s = FIRST_RETRY_S
            self._tell_problem(_problem(servable), None)

    # After a restart.

    def begin_adoption(self) -> None:
        """The places are about to tell what an earlier controller left to them."""
        self._found = {}

    def end_adoption(self) -> None:
        """They have told. Of a version that is at two places, the one that serves is its home, and of two the one where
        it is to be; what is at the other goes when nobody can ask there any more."""
        found, self._found = self._found or {}, None
        for servable, places in found.items():
            wanted = self._find_placement(servable.name)
            home = max(places, key=lambda place: (_serves(places[place]), place is wanted))
            event = places[home]
            site = self._sites[servable] = _Site(home, 0, is_serving=_serves(event))
            self._emit(event)
            for other in places.keys() - {home}:
                if _serves(places[other]):
                    site.others[other] = _Move.LEAVING
                    self._spawn(self._leave(servable, site, other))
                else:
                    self._clear(servable, site, other)

    def _adopt(self, placement: Placement, event: events.ServableAdopted | events.LoadAdopted) -> None:
        assert self._found is not None, "adopted after the adoption was over"
        self._found.setdefault(event.servable, {})[placement] = event


def _serves(event: events.ServableAdopted | events.LoadAdopted) -> bool:
    return isinstance(event, events.ServableAdopted)


def _problem(servable: ServableId) -> str:
    return f"move of {servable}"
