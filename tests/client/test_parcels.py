"""Parcels of counts on a way on which anything may happen, in any order."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from serving_app.client.courier import Courier, Parcel, Receipt
from serving_app.core.families import CALLER_REQUESTS
from serving_app.core.metrics import Registry, Snapshot, total
from serving_app.serve.deliveries import Deliveries
from tests.stepping import Actor

LABELS = ("m", "OK", "1", "serving_default", "latest")


def requests_in(*snapshots: Snapshot) -> float:
    value = total(snapshots).get(CALLER_REQUESTS.name, {}).get(LABELS, 0)
    assert not isinstance(value, tuple)
    return value


class World:
    """A caller, the controller's memory, and the store in which it keeps things."""

    def __init__(self) -> None:
        self.asked = 0
        self.registry = Registry()
        self.courier = Courier("client:1", self.registry, lambda: Actor(self))
        self.kept: Snapshot = {}
        self.numbers: dict[str, int] = {}
        self.trouble = ""
        self.sent: list[tuple[int, Sequence[Parcel]]] = []
        self.crash()

    async def take_counts(self, name: str, safe: int, parcels: Sequence[Parcel]) -> Receipt:
        self.sent.append((safe, parcels))
        if self.trouble == "lost":
            raise ConnectionError("no way there")
        receipt = Receipt(*self.controller.take(name, safe, parcels), 0.0)
        if self.trouble == "no answer":
            raise ConnectionError("no way back")
        return receipt

    def ask(self) -> None:
        self.asked += 1
        self.registry.count(CALLER_REQUESTS, LABELS)

    def come(self, trouble: str = "") -> None:
        """The caller brings what it has, and this happens on the way."""
        self.trouble = trouble
        self.courier._pack()
        asyncio.run(self.courier._bring_parcels())

    def repeat(self) -> None:
        """Something that was sent long ago comes once more, or for the first time."""
        if self.sent:
            safe, parcels = self.sent[self.asked % len(self.sent)]
            self.controller.take("client:1", safe, parcels)

    def keep(self, is_kept: bool = True) -> None:
        counts, numbers = self.controller.begin_keeping()
        if is_kept:
            self.kept, self.numbers = total([self.kept, counts]), dict(numbers)
        self.controller.end_keeping(is_kept)

    def crash(self) -> None:
        """What the controller had in memory only is gone."""
        self.controller = Deliveries(Registry())
        self.controller.restore(self.numbers)

    def known(self) -> float:
        return requests_in(self.kept, *self.controller.counts)


EVENTS = {
    "ask": World.ask,
    "come": World.come,
    "come, and be lost": lambda world: world.come("lost"),
    "come, and hear nothing": lambda world: world.come("no answer"),
    "come late": World.repeat,
    "keep": World.keep,
    "fail to keep": lambda world: world.keep(False),
    "crash": World.crash,
}


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(sorted(EVENTS)), max_size=40))
def test_each_request_counts_once(events: list[str]) -> None:
    """Whatever happens: what is kept never falls, nothing counts twice, and in the end everything is known and kept,
    and nothing is brought any more."""
    world = World()
    shown = 0.0
    for event in events:
        EVENTS[event](world)
        assert shown <= requests_in(world.kept) <= world.known() <= world.asked
        shown = requests_in(world.kept)
    for _ in range(2):  # a controller that has just started again asks for more
        world.come()
    assert world.known() == world.asked
    world.keep()
    world.come()
    assert requests_in(world.kept) == world.asked
    assert not world.courier._parcels
