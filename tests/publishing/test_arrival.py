"""What becomes of a version after its upload, told from what the serving app says of itself."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from serving_app.client.control import Control
from serving_app.core.errors import Code, DeadlineExceeded, FailedPrecondition
from serving_app.core.states import State
from serving_app.core.views import AppView, Failure
from serving_app.publishing.arrival import find_earlier, give_labels, is_ready, tell_delay, wait_until_served
from tests.cli.views import app, model, version
from tests.stepping import Actor

BROKEN = Failure(Code.INTERNAL, "Op type not registered 'AddOne'")
LOADING = version(2, State.LOADING, progress="fetched 1 of 2 MB")
ENDED = version(2, State.ENDED, error=BROKEN)

NOT_YET: dict[str, AppView] = {
    "no such model yet": app(),
    "not found yet": app(model("m", version(1))),
    "still written": app(model("m", version(1), waiting={2: "saved_model.pb is missing"})),
    "written beside a newer one": app(model("m", version(3), waiting={2: "its files have to rest"})),
    "loading": app(model("m", version(1), LOADING)),
    "never listed": app(model("m", aspired=None)),
}


@pytest.mark.parametrize("name", NOT_YET)
def test_what_is_on_its_way_is_waited_for(name: str) -> None:
    """Nothing is decided while the version may still come up."""
    assert not is_ready(NOT_YET[name], "m", 2)


def test_a_ready_version_has_arrived() -> None:
    """READY is what counts, whatever was wrong with an attempt before."""
    assert is_ready(app(model("m", version(2))), "m", 2)
    assert is_ready(app(model("m", version(2, error=BROKEN, failures=1))), "m", 2)


LOST: dict[str, tuple[AppView, str]] = {
    "its load failed": (
        app(model("m", version(2, State.CLEARING, error=BROKEN, failures=1))),
        "version 2 of m cannot be loaded: INTERNAL: Op type not registered 'AddOne'",
    ),
    "it is tried again": (app(model("m", version(2, State.LOADING, error=BROKEN, failures=1))), "cannot be loaded"),
    "it fits on no node": (
        app(model("m", version(2, State.UNFIT, error=Failure(Code.RESOURCE_EXHAUSTED, "needs 9 GB")))), "needs 9 GB"
    ),
    "a newer one came": (app(model("m", version(3))), r"not wanted any more, because there is a newer one \(3\)"),
    "a newer one took its place": (
        app(model("m", version(3), version(2, State.DRAINING), aspired=frozenset({3}))), "there is a newer one"
    ),
}


@pytest.mark.parametrize("name", LOST)
def test_what_will_not_come_is_told_at_once(name: str) -> None:
    """A version that failed to load, or that nobody wants any more, is not waited for."""
    view, words = LOST[name]
    with pytest.raises(FailedPrecondition, match=words):
        is_ready(view, "m", 2)


def test_what_was_before_does_not_count() -> None:
    """The end of an earlier version of the same number says nothing of the one that was written now."""
    before = app(model("m", version(1), ENDED, aspired=frozenset({1})))
    assert find_earlier(before, "m", 2) == ENDED
    assert not is_ready(before, "m", 2, ENDED)
    again = replace(ENDED, since=ENDED.since + 60)
    with pytest.raises(FailedPrecondition, match="cannot be loaded"):
        is_ready(app(model("m", version(1), again)), "m", 2, ENDED)


@pytest.mark.parametrize("state", [State.LOADING, State.READY, State.DRAINING, State.UNLOADING, State.CLEARING])
def test_a_number_that_is_still_held_is_not_published(state: State) -> None:
    """As long as something of an earlier version of this number lives, the app would not look at the new one."""
    with pytest.raises(FailedPrecondition, match="still has version 2 of m, from before"):
        find_earlier(app(model("m", version(2, state))), "m", 2)
    assert find_earlier(app(model("m", version(2, state))), "m", 3) is None


DELAYS: dict[str, tuple[AppView | None, str]] = {
    "silence": (None, "has not said anything"),
    "no model": (app(), "has no model m"),
    "a model that went": (app(model("m", configured=False)), "has no model m"),
    "loading": (app(model("m", LOADING)), "it is LOADING, fetched 1 of 2 MB"),
    "new": (app(model("m", version(2, State.NEW))), "it is START"),
    "still written": (app(model("m", waiting={2: "saved_model.pb is missing"})), "finished: saved_model.pb is missing"),
    "no listing": (app(model("m", listing_failure=Failure(Code.UNAVAILABLE, "no route"))), "UNAVAILABLE: no route"),
    "another directory": (app(model("m", version(1))), "may have another directory of this path"),
    "an earlier one": (app(model("m", ENDED)), "has not been found"),
}


@pytest.mark.parametrize("name", DELAYS)
def test_what_it_waits_for_is_told(name: str) -> None:
    """Who has waited in vain learns what for."""
    view, words = DELAYS[name]
    assert words in tell_delay(view, "m", 2)


class Controller:
    """Says one thing after another, the last one for ever."""

    def __init__(self, views: Sequence[AppView]) -> None:
        self.views = list(views)
        self.labels: list[tuple[str, str, int]] = []

    async def view(self) -> AppView:
        await asyncio.sleep(0)
        return self.views.pop(0) if len(self.views) > 1 else self.views[0]

    async def wait_for_change(self, seen: int, timeout_s: float) -> int:
        await asyncio.sleep(0)
        return seen + 1

    async def set_label(self, name: str, label: str, number: int) -> None:
        self.labels.append((name, label, number))


def control_of(controller: Controller) -> Control:
    """What asks this controller."""

    async def find(_app: str) -> Any:
        await asyncio.sleep(0)
        return Actor(controller)

    return Control("default", find=find)


def test_every_gateway_is_waited_for() -> None:
    """The wait ends when all gateways have a table that is as new as the version, though there may be newer ones."""
    ready = app(model("m", version(2)))
    late = replace(ready, gateways={"g": {}, "h": {}}, readers={"g": 7, "h": 6})
    done = replace(late, revision=9, readers={"g": 9, "h": 7})
    controller = Controller([app(), app(model("m", LOADING)), late, late, done])
    asyncio.run(wait_until_served(control_of(controller), "m", 2, None, None))
    assert controller.views == [done]
    asyncio.run(give_labels(control_of(controller), "m", 2, ("canary", "best")))
    assert controller.labels == [("m", "canary", 2), ("m", "best", 2)]


def test_a_wait_ends() -> None:
    """When the time is over, the error tells how long it was, and what was seen last."""
    controller = Controller([app(model("m", LOADING))])
    with pytest.raises(DeadlineExceeded, match=r"version 2 of m is not served after 0 s: the serving app has not said"):
        asyncio.run(wait_until_served(control_of(controller), "m", 2, None, 0))
