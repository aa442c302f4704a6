"""What TensorFlow Serving's server logs of its models, in the words that people look for (core/loader_harness.cc)."""

from __future__ import annotations

from collections.abc import Iterator

from serving_app.core.servable import ServableId
from serving_app.core.states import State
from serving_app.core.views import AppView, ModelView, VersionView

Line = tuple[str, str]
"""A severity (I, W or E) and a text."""

_WORDS = {
    State.LOADING: "Loading servable version",
    State.READY: "Successfully loaded servable version",
    State.DRAINING: "Quiescing servable version",
    State.UNLOADING: "Unloading servable version",
    State.ENDED: "Done unloading servable version",
}


class ServerLog:
    """Says once what is new."""

    def __init__(self) -> None:
        self._told: dict[ServableId, str] = {}
        self._complaints: set[Line] = set()

    def news(self, view: AppView) -> Iterator[Line]:
        """The lines to log now."""
        versions = [version for model in view.models.values() for version in model.versions]
        # What answers goes first: who reads that the old version goes has read by then that the new one is there.
        for version in sorted(versions, key=lambda each: (each.state is not State.READY, each.servable.version)):
            line = _state_line(version)
            if line is not None and self._told.get(version.servable) != line[1]:
                self._told[version.servable] = line[1]
                yield line
        complaints = {*self._complain(view)}
        yield from sorted(complaints - self._complaints)
        self._complaints = complaints

    def _complain(self, view: AppView) -> Iterator[Line]:
        for model in view.models.values():
            yield from _obstacles(model)
            yield from (("W", f"{model.name}: {line}") for line in model.warnings)
        yield from (("E", problem) for problem in view.problems)


def _state_line(version: VersionView) -> Line | None:
    servable = f"{{name: {version.servable.name} version: {version.servable.version}}}"
    if version.state in (State.CLEARING, State.FAILED, State.UNFIT):
        return "E", f"Loading servable: {servable} failed: {version.error}"
    words = _WORDS.get(version.state)
    return None if words is None else ("I", f"{words} {servable}")


def _obstacles(model: ModelView) -> Iterator[Line]:
    if model.listing_failure is not None:
        yield "E", f"FileSystemStoragePathSource encountered a filesystem access error: {model.listing_failure.message}"
    for number, lacks in sorted(model.waiting.items()):
        yield "W", f"{{name: {model.name} version: {number}}} waits: {lacks}"
