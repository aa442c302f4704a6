"""Rollouts from Python: the requests for a label, or a model's default, move from one version to another.

    rollouts = connect().rollouts
    rollout = rollouts.start("digits", 4, target="stable", strategy={"steps": [1, 10, 50], "gates": [...]})
    rollouts.wait(rollout.id)

Every method answers with the rollout as it is then.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Protocol, TypeVar

from serving_app.client.control import Control
from serving_app.core.errors import DeadlineExceeded
from serving_app.core.rollout import ACTIVE, Phase, Rollout, Transition
from serving_app.core.traffic import DEFAULT_TARGET

T = TypeVar("T")

Metric = Callable[[int], float]
"""The value of a metric for this version, now."""

_NEWS_S = 2.0


class Wait(Protocol):
    """Has a coroutine run, and returns what it returns."""

    def __call__(self, work: Coroutine[Any, Any, T], /) -> T: ...


class Rollouts:
    """The rollouts of one serving app."""

    def __init__(self, control: Control, wait: Wait) -> None:
        self._control = control
        self._wait = wait

    def start(
        self, model: str, to: int, *, target: str = DEFAULT_TARGET, strategy: str | Mapping[str, Any]
    ) -> Rollout:
        """Begin to move the requests for a label, or those that name nothing but the model, to version `to`.

        `strategy` is the name of one of the configuration's, or the settings of one. Returns when it is kept: from then
        on it goes on by itself.
        """
        return self._wait(self._control.start_rollout(model, to, target, strategy))

    def get(self, rollout: int) -> Rollout:
        """A rollout by its number."""
        return self._wait(self._control.rollout(rollout))

    def list(self, model: str | None = None) -> tuple[Rollout, ...]:
        """Those that go on and the last that did, of one model or of all; the newest comes last."""
        return self._wait(self._control.rollouts(model))

    def history(self, rollout: int) -> tuple[Transition, ...]:
        """All that it did, and the evidence for it."""
        return self.get(rollout).transitions

    def promote(self, rollout: int) -> Rollout:
        """On to the next step, whatever gates say."""
        return self._move(rollout, "promote")

    def promote_full(self, rollout: int) -> Rollout:
        """To the end at once: the new version gets all requests."""
        return self._move(rollout, "promote_full")

    def pause(self, rollout: int) -> Rollout:
        """Stay at this step until told."""
        return self._move(rollout, "pause")

    def resume(self, rollout: int) -> Rollout:
        """Go on; what was inconclusive is measured again."""
        return self._move(rollout, "resume")

    def abort(self, rollout: int) -> Rollout:
        """Back at once: the old version gets all requests when this returns."""
        return self._move(rollout, "abort")

    def retry(self, rollout: int) -> Rollout:
        """One that failed, or was aborted or undone, once more from its first step."""
        return self._move(rollout, "retry")

    def undo(self, rollout: int) -> Rollout:
        """Back from one that was promoted, without steps, while the old version is kept."""
        return self._move(rollout, "undo")

    def report_value(self, rollout: int, name: str, value: float, *, version: int | None = None) -> None:
        """The metric of this name has this value now, for the new version unless another is named."""
        self._wait(self._control.report_rollout_value(rollout, name, value, version))

    def wait(
        self,
        rollout: int,
        *phases: Phase | str,
        timeout: float | None = None,
        metrics: Mapping[str, Metric] | None = None,
    ) -> Rollout:
        """The rollout once it is in one of these phases; without any, once it is decided.

        One that is decided otherwise is returned as well: it will not come to another phase by itself. Meanwhile
        `metrics` are asked about both versions, by the name of the gate that wants them, and what they say is reported.
        Raises DeadlineExceeded after `timeout` seconds.
        """
        wanted = {Phase(phase) for phase in phases}
        return self._wait(self._wait_for(rollout, wanted, math.inf if timeout is None else timeout, metrics or {}))

    async def _wait_for(
        self, number: int, wanted: set[Phase], timeout: float, metrics: Mapping[str, Metric]
    ) -> Rollout:
        deadline = time.monotonic() + timeout
        seen = -1
        while True:
            rollout = await self._control.rollout(number)
            if rollout.phase in wanted or rollout.phase not in ACTIVE:
                return rollout
            left = deadline - time.monotonic()
            if left <= 0:
                raise DeadlineExceeded(f"after {timeout:g} s, {rollout}")
            for name, metric in metrics.items():
                for version in (rollout.to_version, rollout.from_version):
                    value = await asyncio.to_thread(metric, version)
                    await self._control.report_rollout_value(number, name, value, version)
            seen = await self._control.wait_for_change(seen, min(left, _NEWS_S, rollout.strategy.interval_s))

    def _move(self, rollout: int, action: str) -> Rollout:
        return self._wait(self._control.move_rollout(rollout, action))
