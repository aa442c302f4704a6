"""What is done on another event loop comes back to whoever awaits it, as it came out there."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from serving_app.client.crossing import Mailbox, across
from tests.stepping import PATIENCE_S, until


class Counting(asyncio.SelectorEventLoop):
    """A loop that counts how often other threads have woken it."""

    def __init__(self) -> None:
        super().__init__()
        self.wakes = 0

    def call_soon_threadsafe(self, callback, *arguments, context=None):  # type: ignore[no-untyped-def]
        self.wakes += 1
        return super().call_soon_threadsafe(callback, *arguments, context=context)


@pytest.fixture
def there() -> Iterator[Mailbox]:
    """A loop that runs in a thread of its own."""
    loop = Counting()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield Mailbox(loop)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(PATIENCE_S)
    loop.close()


async def double(number: int) -> int:
    if number < 0:
        raise ValueError(f"{number} is too small")
    return 2 * number


def test_answers_come_back(there: Mailbox) -> None:
    """Each of many that cross together gets its own answer or error; the other loop is woken once for all of them."""

    async def ask() -> None:
        async def odd(number: int) -> object:
            try:
                return await across(double(number), there)
            except ValueError as error:
                return str(error)

        blocked, woken = threading.Event(), there.loop.wakes  # type: ignore[attr-defined]
        there.loop.call_soon_threadsafe(blocked.wait)  # so that all are there when it looks
        tasks = [asyncio.create_task(odd(number)) for number in (1, -1, 2)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        blocked.set()
        assert await asyncio.gather(*tasks) == [2, "-1 is too small", 4]
        assert there.loop.wakes == woken + 2  # type: ignore[attr-defined]

    asyncio.run(ask())
    asyncio.run(ask())  # on another loop of the same thread


def test_who_is_cancelled_cancels_there(there: Mailbox) -> None:
    """What nobody awaits any more is called off on the loop on which it is done."""
    states: list[str] = []

    async def hang() -> None:
        states.append("begun")
        try:
            await asyncio.Event().wait()
        finally:
            states.append("ended")

    async def ask() -> None:
        task = asyncio.create_task(across(hang(), there))
        await until(lambda: states == ["begun"])
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: states == ["begun", "ended"])

    asyncio.run(ask())


def test_what_is_called_off_there_is_cancelled_here(there: Mailbox) -> None:
    """Work that is cancelled by somebody else is not awaited for ever."""

    async def vanish() -> None:
        raise asyncio.CancelledError

    async def ask() -> None:
        with pytest.raises(asyncio.CancelledError):
            await across(vanish(), there)

    asyncio.run(ask())


def test_a_loop_that_is_gone_needs_no_answer(there: Mailbox) -> None:
    """Who has left with their loop harms nobody who comes later."""
    opened = threading.Event()

    async def stay() -> None:
        await asyncio.to_thread(opened.wait)

    loop = asyncio.new_event_loop()
    asking = loop.create_task(across(stay(), there))
    loop.run_until_complete(asyncio.sleep(0))
    asking.cancel()
    loop.run_until_complete(asyncio.gather(asking, return_exceptions=True))
    loop.close()
    opened.set()
    assert asyncio.run(across(double(4), there)) == 8
