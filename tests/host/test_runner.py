"""The calls of one held version, batched or not, and while that changes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from threading import current_thread, main_thread
from typing import Any

import numpy as np
import pytest

from serving_app.core.batching import Batching
from serving_app.core.errors import FailedPrecondition, ServingError
from serving_app.core.metrics import Registry
from serving_app.core.servable import ServableId
from serving_app.host import Assignment, Host
from serving_app.host.runner import Runner
from serving_app.protocol.calls import Call
from serving_app.protocol.joined_calls import join_requests
from tests.host.scripted import SCRIPTED_PLATFORM, Scripted, ScriptedLoader
from tests.stepping import PATIENCE_S, turns, until

SERVABLE = ServableId("m", 1)


def x(*values: Any) -> Call:
    return Call("serving_default", {"x": np.array(values, np.float32)})


class Scene:
    """A version in a Host, and what runs its calls."""

    def __init__(self, path: Path, limits: Batching | None) -> None:
        ScriptedLoader.ready.clear()
        self.host = Host()
        self.host.load(Assignment(SERVABLE, str(path), SCRIPTED_PLATFORM, batching=limits))
        self.model: Scripted = ScriptedLoader.ready[0]
        self.runner = Runner(self.host, SERVABLE, Registry())

    def batch_by(self, limits: Batching | None) -> None:
        """Have the version batched by these limits from now on."""
        self.host.set_batching(SERVABLE, limits, False)
        self.runner.follow_limits()

    async def ask(self, *calls: Call) -> list[Any]:
        """The values of the replies, or the types of the errors."""
        answer = await self.runner.run(calls)
        return [type(reply) if isinstance(reply, ServingError) else reply["y"].tolist() for reply in answer.replies]


@pytest.fixture
def play(tmp_path: Path) -> Callable[..., None]:
    def run(limits: Batching | None, scenario: Callable[[Scene], Awaitable[None]]) -> None:
        async def scene() -> None:
            async with asyncio.timeout(PATIENCE_S):
                made = Scene(tmp_path, limits)
                try:
                    await scenario(made)
                finally:
                    made.model.go.set()
                    made.runner.close()

        asyncio.run(scene())

    return run


def test_joined_calls_are_answered_without_batching(play: Callable[..., None]) -> None:
    """Who believes that a version is batched and joins gets a reply for each member all the same."""

    async def scenario(scene: Scene) -> None:
        (joined,) = join_requests([x(1), x(-1), x(2, 3)], [None] * 3, 8).calls
        assert await scene.ask(x(0), joined) == [[0], [2], FailedPrecondition, [4, 6]]
        assert sorted(scene.model.runs) == [1, 1, 1, 2]  # in whatever order threads took them up

    play(None, scenario)


def test_batching_is_switched_on_and_off_under_way(play: Callable[..., None]) -> None:
    """What runs and what waits is answered whatever changes meanwhile, and what comes later is run as is wanted now."""

    async def scenario(scene: Scene) -> None:
        (joined,) = join_requests([x(2), x(3)], [None] * 2, 8).calls
        scene.model.go.clear()
        alone = asyncio.ensure_future(scene.ask(x(1)))
        await until(lambda: len(scene.model.runs) == 1)
        scene.batch_by(Batching(num_batch_threads=1))
        first = asyncio.ensure_future(scene.ask(joined))
        await until(lambda: len(scene.model.runs) == 2)
        waiting = asyncio.ensure_future(scene.ask(x(4), x(5)))
        await asyncio.sleep(0)
        scene.batch_by(None)
        assert not scene.runner.is_batched
        scene.model.go.set()
        assert await alone == [[2]]
        assert await first == [[4, 6]]
        assert await waiting == [[8], [10]]
        assert await scene.ask(joined) == [[4], [6]]
        scene.batch_by(Batching(max_batch_size=2))
        assert await scene.ask(joined) == [[4, 6]]
        assert scene.model.runs == [1, 2, 2, 1, 1, 2]

    play(None, scenario)


def test_limits_that_are_the_same_change_nothing(play: Callable[..., None]) -> None:
    """To follow limits that are in force already leaves alone what waits."""

    async def scenario(scene: Scene) -> None:
        waiting = asyncio.ensure_future(scene.ask(x(1)))
        await asyncio.sleep(0)
        scene.batch_by(Batching(batch_timeout_micros=10**12))
        await asyncio.sleep(0)
        assert not waiting.done()
        scene.batch_by(Batching(batch_timeout_micros=0))
        assert await waiting == [[2]]

    play(Batching(batch_timeout_micros=10**12), scenario)


@pytest.mark.parametrize("limits", [None, Batching()])
def test_quick_runs_come_to_the_loop(play: Callable[..., None], limits: Batching | None) -> None:
    """A version that was seen to be quick is run on the event loop, where nothing has to be woken up for it."""

    async def scenario(scene: Scene) -> None:
        threads = set()
        run = scene.model.run

        def noting(*args: Any) -> dict[str, Any]:
            threads.add(current_thread())
            return run(*args)

        scene.model.run = noting  # type: ignore[method-assign]
        await scene.ask(x(1))
        assert main_thread() not in threads
        while main_thread() not in threads:
            assert await scene.ask(x(1)) == [[2]]

    play(limits, scenario)


@pytest.mark.parametrize(("limits", "other"), [
    (None, Call("serving_default", {"x": np.ones((1, 1000), np.float32)})),
    (None, Call("regress", {"x": np.ones(1, np.float32)})),
    (Batching(pad_variable_length_inputs=True), Call("serving_default", {"x": np.ones((1, 1000), np.float32)})),
])
def test_what_was_never_seen_to_be_quick_keeps_off_the_loop(
    play: Callable[..., None], limits: Batching | None, other: Call
) -> None:
    """That small requests of one signature are quick says nothing about larger ones, nor about another signature: who
    sends such does not hold up the others."""

    async def scenario(scene: Scene) -> None:
        threads: list[Any] = []
        run = scene.model.run

        def noting(*args: Any) -> dict[str, Any]:
            threads.append(current_thread())
            return run(*args)

        scene.model.run = noting  # type: ignore[method-assign]
        while main_thread() not in threads:
            await scene.ask(Call("serving_default", {"x": np.ones((1, 1), np.float32)}))
        threads.clear()
        await scene.ask(other)
        assert main_thread() not in threads

    play(limits, scenario)


@pytest.mark.parametrize("limits", [None, Batching(max_batch_size=4)])
def test_an_answer_tells_how_long_its_requests_ran(play: Callable[..., None], limits: Batching | None) -> None:
    """Each of two requests that run at one time counts with its whole run, and no more than was waited for it."""

    async def scenario(scene: Scene) -> None:
        scene.model.go.clear()
        began = time.perf_counter()
        answer = asyncio.ensure_future(scene.runner.run([x(1), x(2)]))
        await until(scene.model.running.is_set)
        running = time.perf_counter()
        await turns(5)
        held = time.perf_counter() - running
        scene.model.go.set()
        assert held < (await answer).ran <= 2 * (time.perf_counter() - began)

    play(limits, scenario)
