"""Those who run plans: step by step, in a thread that blocks or in a coroutine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from serving_app.remote.plans import Exchange, Plan

T = TypeVar("T")


def run(plan: Plan[T], exchange: Callable[[Exchange], bytes]) -> T:
    """The result of a plan, whose exchanges are made by `exchange`. Blocks."""
    try:
        step = next(plan)
        while True:
            if not isinstance(step, Exchange):
                time.sleep(step.seconds)
                step = plan.send(None)
                continue
            try:
                answer = exchange(step)
            except Exception as error:
                step = plan.throw(error)
            else:
                step = plan.send(answer)
    except StopIteration as end:
        result: T = end.value
        return result


async def run_async(plan: Plan[T], exchange: Callable[[Exchange], Awaitable[bytes]]) -> T:
    """The same without blocking."""
    try:
        step = next(plan)
        while True:
            if not isinstance(step, Exchange):
                await asyncio.sleep(step.seconds)
                step = plan.send(None)
                continue
            try:
                answer = await exchange(step)
            except Exception as error:
                step = plan.throw(error)
            else:
                step = plan.send(answer)
    except StopIteration as end:
        result: T = end.value
        return result
