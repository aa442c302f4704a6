"""Rollouts in a storm: orders, edits, evidence, lost versions and dying controllers in any order, and what holds."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from serving_app.core.errors import ServingError
from serving_app.core.rollout import Phase
from serving_app.core.rollout_orders import ORDERS
from serving_app.core.states import State
from serving_app.serve.wanted import decode_wanted, encode_wanted
from tests.cli.views import version
from tests.serve.test_rollouts import WATCHED, App

STRATEGIES: tuple[str | Mapping[str, Any], ...] = (
    "half",
    WATCHED,
    {"steps": [100, {"pause_s": "until_told"}], "keep_s": 30},
    {"steps": [{"mirror": 50}, {"pause_s": 20}, 10, {"pause_s": 20}], "keep_s": 50},
    {"steps": [20, {"analysis_s": 30, "gates": [{"measure": "error_rate", "max": 0.1}]}], "failure_limit": 1},
)
BY_THEMSELVES = {"models": {"m": {"base_path": "/models/m", "labels": {"stable": 1}, "rollout": "half"}}}
PLAIN = "{models: {m: {base_path: /models/m, labels: {stable: 1}}}}"
BACK = (Phase.FAILED, Phase.ABORTED, Phase.UNDONE)


def go_by(app: App, chance: random.Random) -> None:
    """Time passes, and requests are counted."""
    for number in "123":
        for status in ("OK", "INTERNAL"):
            key = ("m", status, number, "s")
            app.counts[key] = app.counts.get(key, 0) + chance.choice((0, 5, 50))
    app.now += chance.choice((0.5, 10.0, 60.0, 200.0))
    app.run(app.rollouts.tick())


def order(app: App, chance: random.Random) -> None:
    """Somebody wants something of some rollout."""
    if known := app.rollouts.find():
        app.move(chance.choice(list(ORDERS)), chance.choice(known).id)


def start(app: App, chance: random.Random) -> None:
    """Somebody starts one."""
    app.start(chance.choice((1, 2, 3)), chance.choice(("stable", "default")), chance.choice(STRATEGIES))


def lose(app: App, chance: random.Random) -> None:
    """A version comes or goes."""
    state = chance.choice((State.READY, State.READY, State.LOADING, State.FAILED, State.ENDED))
    number = chance.choice((1, 2, 3))
    app.versions[number] = version(number, state)


def edit(app: App, chance: random.Random) -> None:
    """Somebody edits what a rollout may be about, or the state's store breaks, or is well again."""
    target = chance.choice(("stable", "default"))
    changes: tuple[Callable[[], Any], ...] = (
        lambda: app.run(app.editing.set_label("m", "stable", chance.choice((1, 2, 3)))),
        lambda: app.run(app.editing.set_traffic("m", target, {"weights": {1: 100}})),
        lambda: app.run(app.editing.apply(PLAIN, "the text", False)),
        lambda: app.run(app.editing.apply(PLAIN.replace("stable: 1", ""), "the text", False)),
        lambda: setattr(app, "is_full", not app.is_full),
        lambda: app.restart() if app.kept else None,
    )
    chance.choice(changes)()


def check(app: App) -> None:
    """Every target has one rollout at most, and is as that wants it; what is kept is what is wanted."""
    for target in ("stable", "default"):
        mine = [each for each in app.rollouts.find() if each.target == target and not each.settled]
        assert len(mine) <= 1
        for each in mine:
            if target == "stable" and "stable" not in app.labels:
                continue
            assert app.weights(target) == {each.from_version: 100 - each.weight, each.to_version: each.weight}
            assert each.weight == 0 or each.phase not in BACK
            if target == "stable":
                is_up = each.phase is Phase.PROMOTED
                assert app.labels["stable"] == (each.to_version if is_up else each.from_version)
    assert not [problem for problem in app.problems.values() if "fault" in problem]
    assert decode_wanted(encode_wanted("a", app.editing.wanted)) == app.editing.wanted


@pytest.mark.parametrize("seed", range(10))
def test_whatever_happens_requests_are_where_their_rollout_wants_them(seed: int) -> None:
    """What is refused changes nothing, what is done is done wholly, and nothing is a fault of the controller."""
    chance = random.Random(seed)
    app = App(1, 2, **(BY_THEMSELVES if seed % 3 == 0 else {}))
    for _ in range(60):
        happens = chance.choices((go_by, order, start, lose, edit), (35, 25, 12, 10, 14))[0]
        with contextlib.suppress(ServingError):
            happens(app, chance)
        check(app)
