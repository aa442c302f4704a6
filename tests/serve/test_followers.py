"""Followers of the route table: who there is, what they acknowledged, and when nobody waits for them any more."""

from __future__ import annotations

import asyncio
from typing import Any

from serving_app.core.events import Event, ReaderJoined, ReaderLeft, RoutesAcknowledged
from serving_app.core.routing import RouteTable
from serving_app.serve.followers import LEASE_S, POLL_S, Followers
from tests.stepping import PATIENCE_S, turns


class Watched:
    """Followers with a clock that the test moves, and the events they told."""

    def __init__(self, **options: Any) -> None:
        self.now = 1000.0
        self.events: list[Event] = []
        self.followers = Followers(self.events.append, clock=lambda: self.now, **options)


def test_a_newer_table_is_answered_at_once() -> None:
    """Who has an older table, or none, gets the newest one without waiting."""

    async def scenario() -> None:
        watched = Watched(poll_s=PATIENCE_S)
        watched.followers.publish(RouteTable(1))
        watched.followers.publish(RouteTable(3))
        for have in (0, 1, 2):
            assert await watched.followers.poll("a", have, 0) == RouteTable(3)

    asyncio.run(scenario())


def test_news_wakes_everyone_who_waits() -> None:
    """A poll waits while there is nothing newer, and a new table answers all that wait."""

    async def scenario() -> None:
        watched = Watched(poll_s=PATIENCE_S)
        watched.followers.publish(RouteTable(1))
        polls = [asyncio.create_task(watched.followers.poll(name, 1, 1)) for name in "abc"]
        await turns()
        assert not any(poll.done() for poll in polls)
        watched.followers.publish(RouteTable(1))
        await turns()
        assert not any(poll.done() for poll in polls)
        watched.followers.publish(RouteTable(2))
        assert await asyncio.gather(*polls) == [RouteTable(2)] * 3

    asyncio.run(scenario())


def test_one_can_wait_until_everyone_holds_a_table() -> None:
    """Whoever asks for newer tables tells which one he holds; who never asked, or is gone, is not waited for."""

    async def scenario() -> None:
        followers = Watched(poll_s=PATIENCE_S).followers
        followers.publish(RouteTable(2))
        followers.acknowledge("never asks", 0)
        assert await followers.wait_until_held(2, PATIENCE_S)
        for name in "ab":
            await followers.poll(name, 1, 0)
        waiting = asyncio.create_task(followers.wait_until_held(2, PATIENCE_S))
        polls = [asyncio.create_task(followers.poll("a", 2, 0))]
        await turns()
        assert not waiting.done()
        followers.leave("b")
        assert await waiting
        assert not await followers.wait_until_held(3, 0.001)
        for poll in polls:
            poll.cancel()

    asyncio.run(scenario())


def test_a_poll_without_news_ends_with_none() -> None:
    """When nothing newer comes the poll is answered all the same, also while there is no table at all."""

    async def scenario() -> None:
        watched = Watched(poll_s=0.001)
        assert await watched.followers.poll("a", 0, 0) is None
        watched.followers.publish(RouteTable(1))
        assert await watched.followers.poll("a", 1, 1) is None

    asyncio.run(scenario())


def test_what_is_acknowledged_is_told_once() -> None:
    """A follower is announced before anything it says; each revision is told once, and an older one never after."""

    async def scenario() -> None:
        watched = Watched(poll_s=0.001)
        for name, revision in (("a", 0), ("a", 2), ("a", 2), ("b", 1), ("a", 1), ("a", 3)):
            watched.followers.acknowledge(name, revision)
        await watched.followers.poll("a", 9, 4)
        assert watched.events == [
            ReaderJoined("a"),
            RoutesAcknowledged("a", 2),
            ReaderJoined("b"),
            RoutesAcknowledged("b", 1),
            RoutesAcknowledged("a", 3),
            RoutesAcknowledged("a", 4),
        ]

    asyncio.run(scenario())


def test_a_good_bye_is_told_once() -> None:
    """Who leaves is gone; leaving again, or without having come, is nothing."""

    async def scenario() -> None:
        watched = Watched()
        watched.followers.acknowledge("a", 1)
        for name in ("a", "a", "b"):
            watched.followers.leave(name)
        assert watched.events[2:] == [ReaderLeft("a")]
        assert "a" not in watched.followers

    asyncio.run(scenario())


def test_a_silent_follower_loses_its_lease() -> None:
    """Each sign of life renews the lease; without one it lapses, for that follower alone."""

    async def scenario() -> None:
        watched = Watched(poll_s=0.001)
        watched.followers.acknowledge("silent", 1)
        watched.followers.acknowledge("alive", 1)
        watched.now += LEASE_S - 1
        watched.followers.expire()
        await watched.followers.poll("alive", 1, 1)
        assert "silent" in watched.followers
        watched.now += 2
        watched.followers.expire()
        watched.followers.expire()
        assert watched.events[4:] == [ReaderLeft("silent")]
        assert "alive" in watched.followers

    asyncio.run(scenario())


def test_a_follower_that_waits_for_news_is_alive() -> None:
    """However long a poll is under way its follower is there; the lease begins anew when the poll ends."""

    async def scenario() -> None:
        watched = Watched(poll_s=PATIENCE_S)
        poll = asyncio.create_task(watched.followers.poll("a", 1, 1))
        await turns()
        watched.now += 10 * LEASE_S
        watched.followers.expire()
        watched.followers.publish(RouteTable(2))
        await poll
        watched.now += LEASE_S - 1
        watched.followers.expire()
        assert "a" in watched.followers
        watched.now += 2
        watched.followers.expire()
        assert watched.events[-1] == ReaderLeft("a")

    asyncio.run(scenario())


def test_a_poll_that_is_cancelled_counts_no_more() -> None:
    """When the process of a follower dies under its poll the lease lapses as for any other."""

    async def scenario() -> None:
        watched = Watched(poll_s=PATIENCE_S)
        poll = asyncio.create_task(watched.followers.poll("a", 1, 1))
        await turns()
        poll.cancel()
        await asyncio.gather(poll, return_exceptions=True)
        watched.now += LEASE_S + 1
        watched.followers.expire()
        assert watched.events[-1] == ReaderLeft("a")

    asyncio.run(scenario())


def test_leaving_under_a_poll_is_final() -> None:
    """A poll that was under way when its follower left does not bring it back."""

    async def scenario() -> None:
        watched = Watched(poll_s=PATIENCE_S)
        poll = asyncio.create_task(watched.followers.poll("a", 1, 1))
        await turns()
        watched.followers.leave("a")
        watched.followers.publish(RouteTable(2))
        await poll
        assert "a" not in watched.followers
        assert watched.events[-1] == ReaderLeft("a")

    asyncio.run(scenario())


def test_leaving_ends_the_poll_of_whoever_leaves() -> None:
    """It is answered at once, with nothing, and others go on waiting."""

    async def scenario() -> None:
        watched = Watched(poll_s=PATIENCE_S)
        watched.followers.publish(RouteTable(1))
        one, other = (asyncio.create_task(watched.followers.poll(name, 1, 1)) for name in "ab")
        await turns()
        watched.followers.leave("a")
        assert await one is None
        await turns()
        assert not other.done()
        assert "b" in watched.followers
        other.cancel()

    asyncio.run(scenario())


def test_polls_fit_well_into_a_lease() -> None:
    """A follower that polls without a break and gets no news is never taken for lost."""
    assert 2 * POLL_S <= LEASE_S


def test_what_nobody_follows_any_more_is_waited_for() -> None:
    """The wait for a revision ends when each follower has acknowledged it, or is there no more."""

    async def scenario() -> None:
        watched = Watched()
        followers = watched.followers
        await followers.wait_until_acknowledged(7)  # by nobody at all
        for name in "abc":
            followers.acknowledge(name, 6)
        waiting = asyncio.create_task(followers.wait_until_acknowledged(7))
        followers.acknowledge("a", 7)
        followers.acknowledge("b", 8)
        await turns()
        assert not waiting.done()
        followers.leave("c")
        await waiting

    asyncio.run(scenario())
