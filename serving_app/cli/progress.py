"""How commands that serve follow their app while it runs, and what `up` prints of it: what is new, once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable, Iterator

from serving_app.client.control import Control, Unreachable
from serving_app.config import ServingConfig
from serving_app.core.errors import ServingError
from serving_app.core.servable import ServableId
from serving_app.core.states import PublicState, State, public_state
from serving_app.core.views import AppView, ModelView, VersionView

_PROGRESS_S = 5.0
"""Before the first line about how far a load is, and between two of them."""


_PACE_S = 0.1
"""Between two looks at least, however much happens."""
_PATIENCE_S = 0.4
"""How long to wait for news: whoever wants to stop has to wait as long."""


def follow(name: str, stop: threading.Event) -> Iterator[AppView]:
    """The app as it is, again and again until `stop` is set. Raises Unreachable when it was stopped from elsewhere."""
    control = Control(name)
    seen = -1
    while not stop.wait(_PACE_S):
        try:
            seen = asyncio.run(control.wait_for_change(seen, _PATIENCE_S))
            view = asyncio.run(control.view())
        except Unreachable:
            raise
        except ServingError:
            continue  # the controller is slow, or about to go; the gateway serves on
        yield view


class Reporter:
    """Says once what is new: a version that moves, one that is waited for, a load that gets on, something wrong."""

    def __init__(self, config: ServingConfig) -> None:
        self._base_paths = {model.name: model.base_path for model in config.models}
        self._states: dict[ServableId, str] = {}
        self._progress: dict[ServableId, tuple[str, float]] = {}
        self._complaints: set[str] = set()

    def news(self, view: AppView, now: float) -> list[str]:
        """The lines to print now."""
        versions = [version for model in view.models.values() for version in in_order(model.versions)]
        states = {version.servable: _state_line(version) for version in versions}
        lines = [line for servable, line in states.items() if self._states.get(servable) != line]
        self._states |= states  # also of those that are not seen: a controller that starts again knows none at first
        lines += self._progress_lines(versions, now)
        complaints = list(self._complain(view))
        lines += [line for line in complaints if line not in self._complaints]
        self._complaints = set(complaints)
        return lines

    def _progress_lines(self, versions: Iterable[VersionView], now: float) -> Iterator[str]:
        told, self._progress = self._progress, {}
        for version in versions:
            if version.progress:
                before, at = told.get(version.servable, ("", now))  # a quick load says nothing
                if before != version.progress and now - at >= _PROGRESS_S:
                    before, at = version.progress, now
                    yield f"  {version.servable.name} version {version.servable.version}: {version.progress}"
                self._progress[version.servable] = before, at

    def _complain(self, view: AppView) -> Iterator[str]:
        for model in view.models.values():
            lines = [*obstacles(model, self._base_paths.get(model.name)), *model.warnings]
            yield from (f"  {model.name}: {line}" for line in lines)
        yield from (f"  {problem}" for problem in view.problems)


def in_order(versions: Iterable[VersionView]) -> list[VersionView]:
    """What answers goes first: who reads that the old version goes has read by then that the new one is there."""
    return sorted(versions, key=lambda each: (each.state is not State.READY, each.servable.version))


def _state_line(version: VersionView) -> str:
    state = public_state(version.state)
    reason = f": {version.error}" if version.error and state is PublicState.END else ""
    return f"  {version.servable.name} version {version.servable.version}: {state.name}{reason}"


def obstacles(model: ModelView, base_path: str | None = None) -> Iterator[str]:
    """What keeps a model, or a version of it, from being loaded at all: no version's state tells of it."""
    if model.listing_failure is not None:
        yield str(model.listing_failure)
    elif model.configured and model.aspired is not None and not model.aspired and not model.waiting:
        where = f" under {base_path}" if base_path else ""
        yield f"no version to serve{where}; versions are directories named by a number, such as 1"
    for number, lacks in sorted(model.waiting.items()):
        yield f"version {number} waits: {lacks}"


def is_settled(config: ServingConfig, view: AppView, is_late: bool = False) -> bool:
    """Whether each model has a version that answers, or one that failed, or none that could be loaded now, and every
    gateway knows of it.

    A model all of whose versions are still being written is waited for until it `is_late`.
    """
    if any(view.readers.get(gateway, 0) < view.revision for gateway in view.gateways):
        return False
    names = {model.name for model in config.models} | {model.name for model in view.models.values() if model.configured}
    return all(name in view.models and _has_had_its_chance(view.models[name], is_late) for name in names)


def _has_had_its_chance(model: ModelView, is_late: bool) -> bool:
    settled = (PublicState.AVAILABLE, PublicState.END)
    if any(public_state(version.state) in settled for version in model.versions):
        return True
    return any(obstacles(model)) and (is_late or not model.waiting)
