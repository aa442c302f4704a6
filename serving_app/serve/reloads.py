"""When a reload that brings new models is done, as TensorFlow Serving has it (servable_state_monitor.cc)."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from serving_app.core.states import State
from serving_app.core.views import ModelView, VersionView

_FAILED = (State.CLEARING, State.FAILED, State.UNFIT)


def find_outcome(models: Collection[str], views: Mapping[str, ModelView]) -> str | None:
    """None while a model has no version that is ready or has failed; then the error to report, empty if there is none.

    Of each model the highest version that is either decides; what is left of an earlier life of it does not count.
    """
    failed = []
    for name in sorted(models):
        view = views.get(name)
        if view is None or not view.configured:
            failed.append(f"{{{{name: {name}}} due to error: a later change took it out of the configuration}}, ")
            continue
        decided = _find_decided(view)
        if decided is None:
            return None
        if decided.state in _FAILED:
            failed.append(f"{{{{name: {name} version: {decided.servable.version}}} due to error: {decided.error}}}, ")
    return f"{len(failed)} model(s) did not become available: {{{''.join(failed)}}}" if failed else ""


def _find_decided(model: ModelView) -> VersionView | None:
    if model.aspired is None:  # not listed since it came
        return None
    return next((each for each in model.versions if each.state is State.READY or each.state in _FAILED), None)
