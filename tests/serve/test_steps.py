"""Coroutines that are driven without a task."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Coroutine
from typing import Any

import pytest

from serving_app.serve.steps import Steps
from tests.stepping import turns, until


def drive(coroutine: Coroutine[Any, Any, None]) -> Steps:
    steps = Steps(coroutine)
    steps.go()
    return steps


def test_what_need_not_wait_ends_at_once() -> None:
    """A coroutine runs up to its first wait before `go` returns, and to its end if it has none."""
    seen: list[str] = []

    async def quick() -> None:
        seen.append("quick")

    async def scenario() -> None:
        ready = asyncio.get_running_loop().create_future()
        ready.set_result("ready")

        async def awaits_what_is_there() -> None:
            seen.append(await ready)

        drive(quick())
        drive(awaits_what_is_there())
        assert seen == ["quick", "ready"]

    asyncio.run(scenario())


def test_it_goes_on_when_what_it_waits_for_is_there() -> None:
    """Results and errors arrive where they are awaited, through threads, tasks, events and bare yields as well."""
    seen: list[object] = []

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        first, second, event = loop.create_future(), loop.create_future(), asyncio.Event()

        async def in_a_task() -> str:
            async with asyncio.timeout(10):
                await event.wait()
            return "task"

        async def work() -> None:
            seen.append(await first)
            with pytest.raises(KeyError):
                await second
            await asyncio.sleep(0)
            seen.append(await asyncio.to_thread(lambda: "thread"))
            event.set()
            seen.append(await asyncio.ensure_future(in_a_task()))

        drive(work())
        await turns()
        assert seen == []
        first.set_result(1)
        await until(lambda: seen == [1])
        second.set_exception(KeyError("x"))
        await until(lambda: seen == [1, "thread", "task"])

    asyncio.run(scenario())


def test_it_can_be_cancelled_where_it_waits(caplog: pytest.LogCaptureFixture) -> None:
    """What it waits for is cancelled and its own cleaning up is done; before and after a wait there is nothing to do.
    """
    seen: list[str] = []

    async def scenario() -> None:
        never = asyncio.get_running_loop().create_future()

        async def work() -> None:
            try:
                await never
            finally:
                seen.append("cleaned up")

        steps = drive(work())
        steps.cancel()
        await until(lambda: seen == ["cleaned up"])
        assert never.cancelled()
        steps.cancel()

    asyncio.run(scenario())
    assert not caplog.records


@pytest.mark.parametrize("outcome", [None, KeyError("x")])
def test_it_can_be_cancelled_where_it_is_about_to_go_on(
    outcome: Exception | None, caplog: pytest.LogCaptureFixture
) -> None:
    """What it waited for is there, and it has not seen that yet: it is cancelled all the same."""
    seen: list[str] = []

    async def scenario() -> None:
        ready = asyncio.get_running_loop().create_future()

        async def work(wait: Awaitable[None]) -> None:
            try:
                await wait
                seen.append("went on")
            finally:
                seen.append("ended")

        both = [drive(work(ready)), drive(work(asyncio.sleep(0)))]
        if outcome is None:
            ready.set_result(None)
        else:
            ready.set_exception(outcome)
        for steps in both:
            steps.cancel()
        await until(lambda: len(seen) == 2)

    asyncio.run(scenario())
    assert seen == ["ended"] * 2
    assert not caplog.records


def test_an_error_that_nobody_caught_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """It ends this coroutine with a line in the log, and harms nobody else."""

    async def fails() -> None:
        raise KeyError("x")

    with caplog.at_level(logging.ERROR):
        drive(fails())
    [record] = caplog.records
    assert record.exc_info
    assert record.exc_info[0] is KeyError
