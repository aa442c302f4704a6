"""The metrics of rollouts that come from outside: asked of Prometheus in threads, or reported by somebody's Python.

The threads are these metrics' own: a Prometheus that hangs may delay other questions to it, and nothing else.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from serving_app.core.errors import InvalidArgument, ServingError
from serving_app.core.gates import Told
from serving_app.core.rollout import Rollout
from serving_app.core.strategy import Gate
from serving_app.serve import prometheus_query

Ask = Callable[[str, str], float]

_THREADS = 8
_MOST_WORDS = 500


class ToldMetrics:
    """What was told of each rollout, and when. Lives on one event loop. `ask` blocks."""

    def __init__(self, clock: Callable[[], float] = time.time, ask: Ask = prometheus_query.ask) -> None:
        self._clock = clock
        self._ask = ask
        self._told: dict[int, dict[tuple[str, int], tuple[float, float | str]]] = {}
        self._asked: dict[tuple[int, str, int], float] = {}
        self._asking: dict[tuple[int, str, int], asyncio.Task[None]] = {}
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="prometheus")

    def report(self, rollout: int, name: str, version: int, value: float | str) -> None:
        """Somebody tells a value, or in words why there is none."""
        if isinstance(value, str):
            value = value[:_MOST_WORDS]
        elif not isinstance(value, int | float) or not math.isfinite(value):
            raise InvalidArgument(f"{value} is no value of a metric")
        self._told.setdefault(rollout, {})[name, version] = self._clock(), value

    def since(self, rollout: int, moment: float) -> Told:
        """What was told after this moment."""
        return {key: value for key, (at, value) in self._told.get(rollout, {}).items() if at > moment}

    def ask(self, rollout: Rollout) -> None:
        """Have Prometheus asked what it is to be asked about a rollout, where it is time for that. Returns at once."""
        for gate in rollout.strategy.all_gates:
            if gate.query is None:
                continue
            versions = (rollout.to_version, rollout.from_version) if gate.is_relative else (rollout.to_version,)
            for version in versions:
                key = rollout.id, gate.name, version
                # Twice between two looks, so that no look finds a value that the window has just left behind.
                is_due = self._clock() - self._asked.get(key, -math.inf) >= rollout.strategy.interval_s / 2
                if is_due and key not in self._asking:
                    self._asked[key] = self._clock()
                    task = asyncio.get_running_loop().create_task(self._ask_one(rollout, gate, version))
                    self._asking[key] = task
                    task.add_done_callback(partial(self._forget_asking, key))

    def _forget_asking(self, key: tuple[int, str, int], _: asyncio.Task[None]) -> None:
        del self._asking[key]

    async def _ask_one(self, rollout: Rollout, gate: Gate, version: int) -> None:
        assert gate.query is not None
        assert gate.prometheus is not None
        asked = self._clock()
        query = prometheus_query.fill_in(gate.query, rollout.model, version)
        value: float | str
        try:
            asking = asyncio.get_running_loop().run_in_executor(self._threads, self._ask, gate.prometheus, query)
            value = await asking
        except ServingError as error:
            value = error.message  # the gate is inconclusive, and says why
        self._told.setdefault(rollout.id, {})[gate.name, version] = asked, value

    def keep_only(self, rollouts: Collection[int]) -> None:
        """Forget what was told of all others."""
        self._told = {number: told for number, told in self._told.items() if number in rollouts}
        self._asked = {key: at for key, at in self._asked.items() if key[0] in rollouts}
