"""Waits of requests that end when their time is over."""

from __future__ import annotations

import asyncio

import pytest

from serving_app.core.errors import DeadlineExceeded
from serving_app.core.servable import ServableId
from serving_app.serve.deadlines import Deadlines
from tests.stepping import PATIENCE_S, run_by_turns, turns

M = ServableId("m", 1)


def future() -> asyncio.Future[int]:
    return asyncio.get_running_loop().create_future()


def test_what_comes_in_time_is_the_result() -> None:
    """A result or an error that is there in time, or at once, is the outcome."""

    async def scenario() -> None:
        deadlines = Deadlines()
        ready, later, wrong = future(), future(), future()
        ready.set_result(1)
        assert await deadlines.wait(ready, PATIENCE_S, M) == 1
        waiting = asyncio.create_task(deadlines.wait(later, PATIENCE_S, M))
        failing = asyncio.create_task(deadlines.wait(wrong, PATIENCE_S, M))
        await turns()
        later.set_result(2)
        wrong.set_exception(KeyError("x"))
        assert await waiting == 2
        with pytest.raises(KeyError):
            await failing

    run_by_turns(scenario())


def test_a_wait_ends_when_its_time_is_over() -> None:
    """It raises DeadlineExceeded with the servable, and what was waited for is cancelled; others wait on."""

    async def scenario() -> None:
        deadlines = Deadlines()
        late, patient = future(), future()
        other = asyncio.create_task(deadlines.wait(patient, PATIENCE_S, M))
        with pytest.raises(DeadlineExceeded, match=r"m.1 gave no answer within 0.030 s"):
            await deadlines.wait(late, 0.03, M)
        assert late.cancelled()
        assert not other.done()
        patient.set_result(3)
        assert await other == 3

    run_by_turns(scenario())


def test_who_is_cancelled_is_not_late() -> None:
    """To cancel the one who waits cancels what it waits for, and is no deadline."""

    async def scenario() -> None:
        deadlines = Deadlines()
        given_up = future()
        waiting = asyncio.create_task(deadlines.wait(given_up, PATIENCE_S, M))
        await turns()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert given_up.cancelled()

    run_by_turns(scenario())


def test_without_waits_nothing_is_looked_at() -> None:
    """When the last wait has ended the timer stops, and starts again with the next one."""

    async def scenario() -> None:
        deadlines = Deadlines()
        for _ in range(2):
            with pytest.raises(DeadlineExceeded):
                await deadlines.wait(future(), 0.001, M)
            assert deadlines._timer is None

    run_by_turns(scenario())
