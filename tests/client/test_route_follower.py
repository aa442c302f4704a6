"""Following the routes of a controller, with the controller's own bookkeeping at the other end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from serving_app.client.route_follower import RouteFollower
from serving_app.core.errors import Unavailable
from serving_app.core.events import Event, ReaderJoined, ReaderLeft, RoutesAcknowledged
from serving_app.core.routing import RouteTable
from serving_app.serve.followers import Followers
from tests.stepping import Actor, turns, until


class Controller:
    """As much of a controller as followers see."""

    def __init__(self, revision: int | None = 1) -> None:
        self.events: list[Event] = []
        self.followers = Followers(self.events.append)
        if revision is not None:
            self.followers.publish(RouteTable(revision))

    async def poll_routes(self, name: str, have: int, acknowledged: int, addresses: Any) -> RouteTable | None:
        return await self.followers.poll(name, have, acknowledged)

    async def acknowledge(self, name: str, revision: int) -> None:
        self.followers.acknowledge(name, revision)

    async def leave(self, name: str) -> None:
        self.followers.leave(name)

    def publish(self, revision: int) -> None:
        self.followers.publish(RouteTable(revision))

    @property
    def acknowledged(self) -> list[int]:
        """The revisions that were acknowledged, in order."""
        return [event.revision for event in self.events if isinstance(event, RoutesAcknowledged)]


class Following:
    """A follower and the controllers that it finds, the last one that was put there."""

    def __init__(self, controller: Controller) -> None:
        self.actor: Any = Actor(controller)
        self.connections = 0
        self.tables: list[int] = []
        self.prepared = asyncio.Event()
        self.prepared.set()
        self.follower = RouteFollower("gateway:1", self._connect, self._prepare)

    async def _connect(self) -> Any:
        self.connections += 1
        if self.actor is None:
            raise Unavailable("no controller")
        return self.actor

    async def _prepare(self, table: RouteTable) -> None:
        self.tables.append(table.revision)
        await self.prepared.wait()

    async def has(self, revision: int) -> None:
        """Wait for a table."""
        await until(lambda: self.follower.table.revision == revision)


async def started(revision: int = 1) -> tuple[Controller, Following]:
    controller = Controller(revision)
    following = Following(controller)
    await following.follower.start()
    return controller, following


def test_a_follower_starts_with_a_table() -> None:
    """`start` returns with the newest table in hand, told once, and the controller knows that someone follows."""

    async def scenario() -> None:
        controller, following = await started(7)
        assert following.follower.table.revision == 7
        assert following.tables == [7]
        await until(lambda: controller.acknowledged == [7])
        assert controller.events == [ReaderJoined("gateway:1"), RoutesAcknowledged("gateway:1", 7)]

    asyncio.run(scenario())


def test_a_follower_waits_for_the_first_table() -> None:
    """While the controller has published nothing yet `start` waits; no request is routed by an empty table."""

    async def scenario() -> None:
        controller = Controller(None)
        following = Following(controller)
        start = asyncio.create_task(following.follower.start())
        await until(lambda: "gateway:1" in controller.followers)
        await turns()
        assert not start.done()
        controller.publish(1)
        await start
        assert following.follower.table.revision == 1

    asyncio.run(scenario())


def test_without_a_controller_there_is_no_start() -> None:
    """What finding the controller raises comes out of `start`; saying good-bye is harmless all the same."""

    async def scenario() -> None:
        following = Following(Controller())
        following.actor = None
        with pytest.raises(Unavailable, match="no controller"):
            await following.follower.start()
        await following.follower.stop()

    asyncio.run(scenario())


def test_tables_come_as_they_are_published() -> None:
    """Each new table is told once, in order, and acknowledged at once when nobody uses an older one."""

    async def scenario() -> None:
        controller, following = await started()
        for revision in (2, 3, 7):
            controller.publish(revision)
            await following.has(revision)
            await until(lambda revision=revision: controller.acknowledged[-1] == revision)
        assert following.tables == [1, 2, 3, 7]

    asyncio.run(scenario())


def test_whoever_needs_a_revision_waits_until_it_is_in_force() -> None:
    """`hold` returns at once for a table that is there, and else with the first one that is as new, once prepared."""

    async def scenario() -> None:
        controller, following = await started(2)
        await following.follower.hold(2)
        following.prepared.clear()
        waiting = [asyncio.create_task(following.follower.hold(revision)) for revision in (3, 4)]
        controller.publish(4)
        await until(lambda: following.tables == [2, 4])
        assert not any(each.done() for each in waiting)
        following.prepared.set()
        await asyncio.gather(*waiting)
        assert following.follower.table.revision == 4

    asyncio.run(scenario())


@pytest.mark.parametrize("is_interrupted", [False, True])
def test_a_thread_may_lease_a_table(is_interrupted: bool) -> None:
    """It is in use until the thread gives it back, or forgets it as when Ctrl-C comes at the end of `__enter__`."""

    async def scenario() -> None:
        controller, following = await started()
        leases = [following.follower.lease_for_thread()]
        assert (await asyncio.to_thread(leases[0].__enter__)).revision == 1
        controller.publish(2)
        await following.has(2)
        await turns()
        assert controller.acknowledged == [1]
        if is_interrupted:
            leases.clear()
        else:
            await asyncio.to_thread(leases[0].__exit__)
            await asyncio.to_thread(leases[0].__exit__)  # once more does nothing
        await until(lambda: controller.acknowledged == [1, 2])
        with following.follower.lease_for_thread() as table:
            assert table.revision == 2

    asyncio.run(scenario())


def test_no_request_follows_a_table_that_is_not_prepared() -> None:
    """While the way to a new table's versions is prepared requests follow the older one, and that one is in use."""

    async def scenario() -> None:
        controller, following = await started()
        following.prepared.clear()
        controller.publish(2)
        await until(lambda: following.tables == [1, 2])
        await turns()
        with following.follower.lease() as table:
            assert table.revision == 1
        assert controller.acknowledged == [1]
        following.prepared.set()
        await following.has(2)
        await until(lambda: controller.acknowledged == [1, 2])

    asyncio.run(scenario())


def test_an_older_table_in_use_is_not_acknowledged_away() -> None:
    """While a request holds an older table the newer one is not acknowledged; when the last one ends it is, at once."""

    async def scenario() -> None:
        controller, following = await started()
        first, second = following.follower.lease(), following.follower.lease()
        assert first.__enter__().revision == second.__enter__().revision == 1
        controller.publish(2)
        await following.has(2)
        await turns()
        assert controller.acknowledged == [1]
        first.__exit__(None, None, None)
        await turns()
        assert controller.acknowledged == [1]
        second.__exit__(None, None, None)
        await until(lambda: controller.acknowledged == [1, 2])

    asyncio.run(scenario())


def test_acknowledgements_follow_the_oldest_table_in_use() -> None:
    """Requests on three tables that end in any order: what is acknowledged is the oldest one still in use."""

    async def scenario() -> None:
        controller, following = await started()
        leases = {}
        for revision in (1, 2, 3):
            if revision > 1:
                controller.publish(revision)
                await following.has(revision)
            leases[revision] = following.follower.lease()
            assert leases[revision].__enter__().revision == revision
        controller.publish(4)
        await following.has(4)
        for ended, right in ((2, [1]), (1, [1, 3]), (3, [1, 3, 4])):
            leases[ended].__exit__(None, None, None)
            await turns()
            assert controller.acknowledged == right

    asyncio.run(scenario())


def test_a_request_that_fails_gives_its_table_back() -> None:
    """An error inside a lease ends the lease as an answer does."""

    async def scenario() -> None:
        controller, following = await started()
        lease = following.follower.lease()
        lease.__enter__()
        controller.publish(2)
        await following.has(2)
        assert not lease.__exit__(KeyError, KeyError(), None)
        await until(lambda: controller.acknowledged == [1, 2])

    asyncio.run(scenario())


class Forgotten:
    """What is left of an actor that nobody should ask again."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __getattr__(self, method: str) -> Any:
        self.asked.append(method)
        raise AttributeError(method)


def test_a_lost_controller_leaves_the_last_table_in_force(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """While there is no controller requests go on by the last table, and the log says so once; the next controller is
    found, and followed.
    """
    monkeypatch.setattr("serving_app.client.route_follower._RECONNECT_S", 0)

    async def scenario() -> None:
        controller, following = await started()
        lost, following.actor = following.actor, None
        lost.lose(ConnectionError("the actor died"))
        await until(lambda: following.connections > 1)
        lost._target = forgotten = Forgotten()
        await until(lambda: following.connections > 5)
        assert forgotten.asked == []  # once a process has left its cluster, Ray would start another one for that
        with following.follower.lease() as table:
            assert table.revision == 1
        assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [
            "no news of routes (ConnectionError('the actor died')); going on by revision 1"
        ]
        controller = Controller(5)
        following.actor = Actor(controller)
        await following.has(5)
        assert controller.events[:1] == [ReaderJoined("gateway:1")]
        await until(lambda: controller.acknowledged[-1] == 5)

    asyncio.run(scenario())


def test_a_table_in_use_counts_for_the_next_controller_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new controller hears of the oldest table in use before anything else, so it removes nothing under a request."""
    monkeypatch.setattr("serving_app.client.route_follower._RECONNECT_S", 0)

    async def scenario() -> None:
        _, following = await started()
        with following.follower.lease():
            successor = Controller(5)
            lost, following.actor = following.actor, Actor(successor)
            lost.lose(ConnectionError("the actor died"))
            await following.has(5)
            await turns()
            assert successor.acknowledged == [1]
        await until(lambda: successor.acknowledged == [1, 5])

    asyncio.run(scenario())


def test_a_lease_ends_in_peace_while_the_controller_is_away() -> None:
    """Nobody to tell that a table went out of use is no trouble of the request that used it."""

    async def scenario() -> None:
        controller, following = await started()
        with following.follower.lease():
            controller.publish(2)
            await following.has(2)
            following.actor.lose(ConnectionError("the actor died"))
        assert following.follower.table.revision == 2

    asyncio.run(scenario())


def test_revisions_never_go_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A controller that offers an older table, whatever made it do so, does not take anybody back."""
    monkeypatch.setattr("serving_app.client.route_follower._RECONNECT_S", 0)

    async def scenario() -> None:
        _, following = await started(5)
        asked = []

        class Confused(Controller):
            async def poll_routes(self, name: str, have: int, acknowledged: int, addresses: Any) -> RouteTable | None:
                asked.append(have)
                await asyncio.sleep(0)
                return RouteTable(3)

        lost, following.actor = following.actor, Actor(Confused())
        lost.lose(ConnectionError("the actor died"))
        await until(lambda: len(asked) > 3)
        assert following.follower.table.revision == 5
        assert set(asked) == {5}
        assert following.tables == [5]

    asyncio.run(scenario())


def test_stopping_says_good_bye() -> None:
    """After `stop` the controller waits for this follower no more, and hears nothing of it any more."""

    async def scenario() -> None:
        controller, following = await started()
        with following.follower.lease():
            controller.publish(2)
            await following.has(2)
            await following.follower.stop()
        await turns()
        assert controller.events[-1] == ReaderLeft("gateway:1")
        assert "gateway:1" not in controller.followers

    asyncio.run(scenario())


def test_stopping_needs_no_controller() -> None:
    """When the controller is gone already, stopping ends quietly."""

    async def scenario() -> None:
        _, following = await started()
        following.actor.lose(ConnectionError("the actor died"))
        await following.follower.stop()

    asyncio.run(scenario())


def test_a_follower_that_gets_ready_is_not_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long a table takes to be prepared, the controller hears of its follower, which goes on by the last."""
    monkeypatch.setattr("serving_app.client.route_follower._SIGN_OF_LIFE_S", 0.001)

    async def scenario() -> None:
        controller, following = await started(1)
        heard: list[int] = []
        controller.followers.acknowledge = lambda _, revision: heard.append(revision)  # type: ignore[method-assign]
        following.prepared.clear()
        controller.publish(2)
        await until(lambda: heard[-2:] == [1, 1])
        assert following.follower.table.revision == 1
        following.prepared.set()
        await following.has(2)
        await following.follower.stop()

    asyncio.run(scenario())
