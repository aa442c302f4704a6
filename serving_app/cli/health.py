"""What a view means: which versions answer, what is wrong, in sentences."""

from __future__ import annotations

from collections.abc import Iterator

from serving_app.cli.tables import some
from serving_app.cli.times import ahead, duration
from serving_app.core.errors import NotFound
from serving_app.core.placement import Placement
from serving_app.core.states import PublicState, State, public_state
from serving_app.core.views import AppView, ModelView, VersionView


def is_healthy(model: ModelView) -> bool:
    """Whether some version answers. A model that left the configuration need not."""
    return bool(ready(model)) or not model.configured


def are_healthy(view: AppView) -> bool:
    """Whether every model answers, somebody listens, and nothing is to be looked at."""
    return bool(view.gateways) and not view.problems and all(map(is_healthy, view.models.values()))


def find_model(view: AppView, name: str) -> ModelView:
    """A model by name. Raises NotFound with the names that there are."""
    if name in view.models:
        return view.models[name]
    known = f"the models are {some(sorted(view.models), 20)}" if view.models else "it has no models"
    raise NotFound(f"the serving app {view.app!r} knows no model {name!r}; {known}")


def is_colocated(model: ModelView) -> bool:
    """Whether a version answers that lives in the gateways."""
    return any(each.state is State.READY and each.placement is Placement.COLOCATED for each in model.versions)


def ready(model: ModelView) -> list[int]:
    """The versions that answer, newest first."""
    return [version.servable.version for version in model.versions if version.state is State.READY]


def state_words(version: VersionView) -> str:
    """TensorFlow Serving's state, and what it leaves open: END is also where a version that failed is."""
    public = public_state(version.state)
    if version.state in (State.DRAINING, State.FAILED, State.CLEARING):
        return f"{public.name} ({'failed' if public is PublicState.END else 'draining'})"
    return public.name


def failure_words(version: VersionView, now: float) -> str:
    """Why it does not load, how often that was tried, and when it is tried next."""
    if version.error is None:
        return ""
    tries = "1 attempt" if version.failures == 1 else f"{version.failures} attempts"
    known = [tries] if version.failures else []  # none where it was not tried, or its files have changed since
    if version.retry_at is not None:
        known.append(f"next {ahead(version.retry_at, now)}")
    return f"{version.error} ({', '.join(known)})" if known else str(version.error)


def news(model: ModelView, now: float) -> Iterator[str]:
    """A sentence for all of a model that is not just serving: what comes, what goes, what failed, what is odd."""
    if not model.configured:
        yield "not configured any more"
    if model.listing_failure is not None:
        yield str(model.listing_failure)
    for version in model.versions:
        if version.state not in (State.READY, State.ENDED):
            words = f"{version.servable.version} {state_words(version)} for {duration(now - version.since)}"
            more = [version.progress or "", failure_words(version, now)]
            yield ": ".join([words, *(each for each in more if each)])
    for number, lacks in sorted(model.waiting.items(), reverse=True):
        yield f"{number} waiting: {lacks}"
    yield from model.warnings
    if model.configured and not model.versions and not model.waiting and model.listing_failure is None:
        yield "not listed yet" if model.aspired is None else "no versions found"


def label_news(model: ModelView) -> Iterator[str]:
    """A sentence for each label that leads nowhere."""
    for label in sorted(model.labels) if model.configured else ():
        if not is_active(model, label):
            yield f"label {label} names version {model.labels[label]}, which does not answer"


def labels_of(model: ModelView, version: int) -> list[str]:
    """The labels that name this version."""
    return sorted(label for label, named in model.labels.items() if named == version)


def is_active(model: ModelView, label: str) -> bool:
    """Whether the version that a label names answers."""
    return model.labels[label] in ready(model)
