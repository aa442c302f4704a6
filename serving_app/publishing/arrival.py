"""Waiting until a version that was published answers, or until it is clear that it will not."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from serving_app.client.control import Control
from serving_app.core.errors import DeadlineExceeded, FailedPrecondition
from serving_app.core.states import State, public_state
from serving_app.core.views import AppView, ModelView, VersionView

_NEWS_S = 0.5
"""How long one wait for news takes at most: that a gateway has a new table is no news."""

_HELD = frozenset({State.LOADING, State.READY, State.DRAINING, State.UNLOADING, State.CLEARING})
"""Where there is still something of a version in some process."""


def find_earlier(view: AppView, name: str, number: int) -> VersionView | None:
    """What the app knows of a version of this number before it is published.

    Raises FailedPrecondition if it still holds one: it would go on with that, whatever lies in the store.
    """
    version = _find(view.models.get(name), number)
    if version is not None and version.state in _HELD:
        raise FailedPrecondition(
            f"the serving app still has version {number} of {name}, from before ({public_state(version.state).name}); "
            "wait until it is gone, or take another number"
        )
    return version


def is_ready(view: AppView, name: str, number: int, earlier: VersionView | None = None) -> bool:
    """Whether a version answers. `earlier` is what was known of its number before it was published.

    Raises FailedPrecondition, with the loader's own words, if its load has failed, or if it will not be loaded.
    """
    model = view.models.get(name)
    version = _find(model, number)
    if model is None or version == earlier:
        version = None
    if version is not None and version.state is State.READY:
        return True
    if version is not None and version.error is not None:
        raise FailedPrecondition(f"version {number} of {name} cannot be loaded: {version.error}")
    aspired = (model.aspired if model is not None else None) or frozenset()
    if aspired and number < max(aspired) and number not in aspired and number not in _waiting(model):
        raise FailedPrecondition(
            f"version {number} of {name} is not wanted any more, because there is a newer one ({max(aspired)}); look "
            "at that, or let the version policy have more versions"
        )
    return False


def tell_delay(view: AppView | None, name: str, number: int) -> str:
    """What a version waits for, in words."""
    if view is None:
        return "the serving app has not said anything of it"
    model = view.models.get(name)
    if model is None or not model.configured:
        return f"the serving app has no model {name}"
    version = _find(model, number)
    if version is not None and version.state is not State.ENDED:
        state = f"it is {public_state(version.state).name}"
        return f"{state}, {version.progress}" if version.progress else state
    if number in model.waiting:
        return f"its upload does not look finished: {model.waiting[number]}"
    if model.listing_failure is not None:
        return f"the base path could not be listed: {model.listing_failure}"
    return "it has not been found under the base path; the serving app may have another directory of this path"


async def wait_until_served(
    control: Control, name: str, number: int, earlier: VersionView | None, timeout_s: float | None
) -> None:
    """Returns when a version answers and every gateway routes to it.

    Raises as `is_ready`, and DeadlineExceeded, with what it waits for, when the time is over.
    """
    view: AppView | None = None
    revision: int | None = None
    seen = -1
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                seen = await control.wait_for_change(seen, _NEWS_S)
                view = await control.view()
                if is_ready(view, name, number, earlier):
                    revision = view.revision if revision is None else revision
                    if all(view.readers.get(gateway, 0) >= revision for gateway in view.gateways):
                        return
    except TimeoutError:
        raise DeadlineExceeded(
            f"version {number} of {name} is not served after {timeout_s:g} s: {tell_delay(view, name, number)}"
        ) from None


async def give_labels(control: Control, name: str, number: int, labels: Sequence[str]) -> None:
    """Let each label name the version; returns when every gateway routes by them."""
    for label in labels:
        await control.set_label(name, label, number)


def _find(model: ModelView | None, number: int) -> VersionView | None:
    versions = model.versions if model is not None else ()
    return next((version for version in versions if version.servable.version == number), None)


def _waiting(model: ModelView | None) -> frozenset[int]:
    return frozenset(model.waiting) if model is not None else frozenset()
