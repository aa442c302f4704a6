"""Strategies of rollouts as they are written, and what rollouts make of a configuration."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from serving_app.config import ConfigError, ServingConfig, parse
from serving_app.config.rollout_traffic import impose, settle
from serving_app.config.rollouts import dump_rollouts, load_rollouts, read_strategy
from serving_app.core.errors import DataLoss
from serving_app.core.gates import Outcome, Verdict
from serving_app.core.rollout import Check, Phase, Rollout, Transition
from serving_app.core.strategy import Analysis, Bound, Gate, Measure, Pause, SetMirror, SetWeight, Strategy

CAREFUL = {
    "steps": [
        {"mirror": 20},
        {"analysis_s": 120, "gates": [{"measure": "disagreement", "max": 0.01}]},
        {"mirror": 0},
        10,
        {"pause_s": 300},
        {"weight": 50},
        {"pause_s": "until_told"},
    ],
    "gates": [
        {"measure": "error_rate", "max_increase": 0.01, "min_samples": 100},
        {"measure": "latency", "name": "p90", "quantile": 0.9, "max_ratio": 2},
        {"measure": "metric", "name": "clicks", "prometheus": "http://p:9090", "query": "clicks", "min": 3},
    ],
    "failure_limit": 2,
    "tolerances": {"y": {"absolute": 0.5}},
}


def test_a_strategy_is_read() -> None:
    """Steps in their order, of which a mere number is a weight; gates with their limit."""
    strategy = read_strategy("careful", CAREFUL)
    assert strategy.steps == (
        SetMirror(20), Analysis(120, (Gate("disagreement", Measure.DISAGREEMENT, Bound.MAX, 0.01),)), SetMirror(0),
        SetWeight(10), Pause(300), SetWeight(50), Pause(None),
    )  # fmt: skip
    assert strategy.gates == (
        Gate("error_rate", Measure.ERROR_RATE, Bound.MAX_INCREASE, 0.01, min_samples=100),
        Gate("p90", Measure.LATENCY, Bound.MAX_RATIO, 2.0, quantile=0.9),
        Gate("clicks", Measure.METRIC, Bound.MIN, 3.0, query="clicks", prometheus="http://p:9090"),
    )
    assert (strategy.name, strategy.failure_limit, strategy.keep_s) == ("careful", 2, 300.0)
    assert strategy.tolerances == {"y": {"absolute": 0.5, "relative": 0.001}}


ERRORS = {"measure": "error_rate", "max": 0.1}
METRIC = {"measure": "metric", "name": "clicks", "min": 1}


@pytest.mark.parametrize(
    ("written", "complaint"),
    [
        ({}, "steps: this has no default and must be given"),
        ({"steps": []}, "at least 1 item"),
        ({"steps": [101]}, "less than or equal to 100"),
        ({"steps": [{"weight": 5, "mirror": 5}]}, "a step is exactly one of weight, mirror, pause_s and analysis_s"),
        ({"steps": [{}]}, "a step is exactly one of"),
        ({"steps": [{"weight": 5, "gates": [ERRORS]}]}, "an analysis needs gates, and no other step has any"),
        ({"steps": [{"analysis_s": 5}]}, "an analysis needs gates"),
        ({"steps": [5, {"pause_s": "forever"}]}, "until_told"),
        ({"steps": [5], "gates": [{"measure": "error_rate"}]}, "exactly one of max, min, max_ratio"),
        ({"steps": [5], "gates": [{**ERRORS, "max_ratio": 2}]}, "exactly one of max, min, max_ratio"),
        ({"steps": [5], "gates": [{"measure": "error_rate", "min": 0}]}, "the better the lower"),
        ({"steps": [5], "gates": [{"measure": "error_rate", "max": 5}]}, "a part of 1"),
        ({"steps": [{"mirror": 5}], "gates": [{"measure": "drift", "max_ratio": 2}]}, "compares the two"),
        ({"steps": [5], "gates": [{"measure": "drift", "max": 0.1}]}, "needs copies of requests, and there are none"),
        ({"steps": [5], "gates": [{"measure": "metric", "min": 1}]}, "a metric needs a name"),
        ({"steps": [5], "gates": [{**METRIC, "query": "q"}]}, "prometheus and query belong together"),
        ({"steps": [5], "gates": [{**ERRORS, "query": "q", "prometheus": "http://p"}]}, "and to a metric"),
        ({"steps": [5], "gates": [{**METRIC, "query": "q", "prometheus": "file:///etc"}]}, "no address of Prometheus"),
        ({"steps": [5], "gates": [ERRORS, ERRORS]}, "several gates are called error_rate; give each a `name`"),
        ({"steps": [5], "patience": 3}, "did you mean patience_s"),
        ({"steps": [1, 10]}, r"step 1 (weight 1 %) would be over at once, as there is nothing to wait for; add a step"),
        ({"steps": [1, 10]}, r"step 2 (weight 10 %) would be over at once"),
        ({"steps": [{"mirror": 5}, {"mirror": 0}, 100], "gates": [ERRORS]}, "step 1 (mirror 5 %) would be over at"),
        ({"steps": [{"mirror": 5}, 100]}, "step 1 (mirror 5 %) would be over at once"),
        ({"steps": [100], "interval_s": 90}, "only at what happened in the last 60 s (window_s)"),
        ({"steps": [100], "gates": [{**ERRORS, "max": float("nan")}]}, "finite number"),
    ],
)
def test_what_makes_no_sense_is_refused(written: dict[str, Any], complaint: str) -> None:
    """Each mistake is told at its place, before anything is rolled out."""
    with pytest.raises(ConfigError) as caught:
        read_strategy("mine", written)
    assert "The strategy mine has" in str(caught.value)
    assert complaint in str(caught.value)


def test_a_model_names_a_strategy_that_is_there() -> None:
    """A name that is not among the strategies is refused, with those that are."""
    strategies = {"a": {"steps": [5, {"pause_s": 9}]}}
    parse({"models": {"m": {"base_path": "/m", "rollout": "a"}}, "rollout_strategies": strategies})
    with pytest.raises(ConfigError, match=r"rolled out by b, which is not among rollout_strategies; those are: a"):
        parse({"models": {"m": {"base_path": "/m", "rollout": "b"}}, "rollout_strategies": strategies})


def rollout(phase: Phase = Phase.RUNNING, target: str = "stable", **more: Any) -> Rollout:
    verdict = Verdict("g", Outcome.INCONCLUSIVE, 0.5, None, 3.0, "why")
    settings: dict[str, Any] = {
        "phase": phase, "step": 1, "weight": {Phase.PROMOTED: 100.0, Phase.RUNNING: 10.0}.get(phase, 0.0),
        "checks": {"g": Check(1, verdict)}, "transitions": (Transition(3.5, "what", phase, 10.0, (verdict,)),),
    }
    return Rollout(7, "m", target, 1, 2, read_strategy("careful", CAREFUL), 1.0, 2.0, 3.0, **{**settings, **more})


def test_rollouts_are_kept_as_plain_data() -> None:
    """What is written is read back as it was, with its evidence; what another release wrote is told from it."""
    kept = (
        rollout(before={"weights": {"1": 100.0}, "sticky": None, "audience": [], "mirror": None}),
        rollout(Phase.PAUSED, "default", paused=4.0, missed=5.0, settled=True, is_automatic=True),
        Rollout(8, "m", "default", 1, 2, Strategy("s", ()), 0.0, 0.0, 0.0),
    )
    assert load_rollouts(json.loads(json.dumps(dump_rollouts(kept)))) == kept
    with pytest.raises(DataLoss, match="its rollouts cannot be read"):
        load_rollouts([{"id": 1}])


def config(**model: Any) -> ServingConfig:
    settings = {"base_path": "/m", "labels": {"stable": 1}, **model}
    return parse({"models": {"m": settings, "n": "/n"}, "rollout_strategies": {"a": {"steps": [5, {"pause_s": 9}]}}})


def shares(after: ServingConfig, target: str = "stable") -> dict[int, float] | None:
    traffic = after.models[0].traffic.get(target)
    return None if traffic is None else dict(traffic.weights)


def test_a_rollout_imposes_its_traffic_and_its_label() -> None:
    """Whoever edited the configuration; what has it already is the very same afterwards."""
    before = config()
    after = impose(before, before, (rollout(),))
    assert shares(after) == {1: 90, 2: 10}
    assert impose(after, after, (rollout(),)) is after
    promoted = impose(after, config(labels={"stable": 1}), (rollout(Phase.PROMOTED),))
    assert (shares(promoted), dict(promoted.models[0].labels)) == ({1: 0, 2: 100}, {"stable": 2})
    back = impose(promoted, promoted, (rollout(Phase.UNDONE),))
    assert (shares(back), dict(back.models[0].labels)) == ({1: 100, 2: 0}, {"stable": 1})
    mirrored = impose(before, before, (rollout(mirror=20.0),)).models[0].traffic["stable"].mirror
    assert mirrored is not None
    assert (mirrored.version, mirrored.share, mirrored.tolerances["y"].absolute) == (2, 20, 0.5)


@pytest.mark.parametrize("other", [rollout(settled=True), rollout(target="gold"), replace(rollout(), model="x")])
def test_a_rollout_without_its_target_imposes_nothing(other: Rollout) -> None:
    """One that is settled, or whose label or model is gone, changes nothing."""
    before = config()
    assert impose(before, before, (other,)) is before
    if not other.settled:
        assert settle(before, other, latest=2) is before


def test_what_is_held_for_rollouts_stays_held() -> None:
    """A model whose versions come by rollouts keeps the traffic that it had, through an edit that leaves it out."""
    before = config(rollout="a", traffic={"default": {"weights": {1: 100}}})
    assert shares(impose(before, config(rollout="a"), ()), "default") == {1: 100}
    assert shares(impose(before, config(), ()), "default") is None
    moved = config(rollout="a", traffic={"default": {"weights": {2: 100}}})
    assert shares(impose(before, moved, ()), "default") == {2: 100}


def test_a_settled_target_is_given_back() -> None:
    """A label shares nothing any more; requests that name nothing stay where the latest version is another."""
    ended = rollout(Phase.PROMOTED, settled=True)
    shared = impose(config(), config(), (replace(ended, settled=False),))
    after = settle(shared, ended, latest=9)
    assert (shares(after), dict(after.models[0].labels)) == (None, {"stable": 2})
    by_default = rollout(Phase.PROMOTED, "default", settled=True)
    assert shares(settle(config(), by_default, latest=2), "default") is None
    assert shares(settle(config(), by_default, latest=3), "default") == {2: 100}
    assert shares(settle(config(rollout="a"), by_default, latest=2), "default") == {2: 100}
