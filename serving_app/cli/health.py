"""What a view means, in sentences: where versions are, what is wrong with them, what is new of a model."""

from __future__ import annotations

from collections.abc import Iterator

from serving_app.cli.times import ahead, duration
from serving_app.core.health import is_active
from serving_app.core.placement import Placement
from serving_app.core.states import PublicState, State, public_state
from serving_app.core.views import ModelView, VersionView


def is_colocated(model: ModelView) -> bool:
    """Whether a version answers that lives in the gateways."""
    return any(each.state is State.READY and each.placement is Placement.COLOCATED for each in model.versions)


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
