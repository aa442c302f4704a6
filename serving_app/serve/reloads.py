"""When everything that is to be served has had its chance, as TensorFlow Serving has it (servable_state_monitor.cc)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from serving_app.core.states import State
from serving_app.core.views import ModelView, VersionView

_FAILED = (State.CLEARING, State.FAILED, State.UNFIT)


def find_outcome(models: Collection[str], views: Mapping[str, ModelView]) -> str | None:
    """How a reload ended that brought these models.

    None while a model has no version that is ready or has failed; then the error to report, empty if there is none.
    Of each model the highest version that is either decides; what is left of an earlier life of it does not count.
    """
    return _find_outcome("model(s)", models, views, _has_failed)


def find_first_outcome(views: Mapping[str, ModelView], quick_retries: int) -> str | None:
    """How the first loads of a serving app ended: the same for all configured models, over what a server reports.

    Here a version has failed when its quick retries are over as well, and not while one of them is to come.
    """
    configured = [name for name, view in views.items() if view.configured]
    return _find_outcome("servable(s)", configured, views, lambda version: _is_given_up(version, quick_retries))


def _find_outcome(
    noun: str, models: Collection[str], views: Mapping[str, ModelView], failed: Callable[[VersionView], bool]
) -> str | None:
    reasons = []
    for name in sorted(models):
        view = views.get(name)
        if view is None or not view.configured:
            reasons.append(f"{{{{name: {name}}} due to error: a later change took it out of the configuration}}, ")
            continue
        decided = _find_decided(view, failed)
        if decided is None:
            return None
        if decided.state is not State.READY:
            reasons.append(f"{{{{name: {name} version: {decided.servable.version}}} due to error: {decided.error}}}, ")
    return f"{len(reasons)} {noun} did not become available: {{{''.join(reasons)}}}" if reasons else ""


def _find_decided(model: ModelView, failed: Callable[[VersionView], bool]) -> VersionView | None:
    if model.aspired is None:  # not listed since it came
        return None
    return next((each for each in model.versions if each.state is State.READY or failed(each)), None)


def _has_failed(version: VersionView) -> bool:
    return version.state in _FAILED


def _is_given_up(version: VersionView, quick_retries: int) -> bool:
    return version.state is State.UNFIT or (version.state in _FAILED and version.failures > quick_retries)
