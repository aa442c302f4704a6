"""How traffic is written in a configuration, and what the core is told of it."""

from __future__ import annotations

from typing import Any

import pytest

from serving_app.config import (
    ConfigError,
    ServingConfig,
    delete_label,
    delete_traffic,
    make_plan,
    parse,
    parse_yaml,
    set_label,
    set_traffic,
    to_yaml,
    traffic_of,
)
from serving_app.core.errors import NotFound, ServingError
from serving_app.core.traffic import Mirror, Rule, Tolerance, Traffic

SHARED = {
    "default": {"weights": {3: 90, 4: 10}, "sticky": "X-User"},
    "stable": {
        "weights": {3: 100},
        "mirror": {"version": 7, "share": 20, "tolerances": {"y": {"relative": 0.1}}},
        "audience": [
            {"attribute": "x-team", "one_of": ["ads", "search"], "version": 4},
            {"attribute": "input:country", "equals": "nz", "label": "canary"},
            {"attribute": "user-agent", "matches": "curl/.*", "version": 4},
        ],
    },
}


def config(traffic: Any = SHARED, **settings: Any) -> ServingConfig:
    """Of one model, `m`."""
    model = {"base_path": "/m", "labels": {"canary": 5}, "traffic": traffic, **settings}
    return parse({"models": {"m": model}})


def test_what_the_core_is_told() -> None:
    """Names of headers are in small letters, labels of rules are their versions, and each target has its own seed."""
    assert traffic_of(config().models[0]) == {
        "": Traffic({3: 90.0, 4: 10.0}, "x-user", (), "m\0default"),
        "stable": Traffic(
            {3: 100.0},
            None,
            (
                Rule("x-team", 4, frozenset({"ads", "search"})),
                Rule("input:country", 5, frozenset({"nz"})),
                Rule("user-agent", 4, frozenset(), "curl/.*"),
            ),
            "m\0stable",
            Mirror(7, 20.0, {"y": Tolerance(1e-6, 0.1)}),
        ),
    }


def test_yaml_and_back() -> None:
    """What is written is read as the same."""
    assert parse_yaml(to_yaml(config())) == config()


@pytest.mark.parametrize(
    ("traffic", "complaint"),
    [
        ({"default": {"weights": {1: 90, 2: 20}}}, "add up to 110; make them add up to 100"),
        ({"default": {"weights": {}}}, "traffic.default.weights"),
        ({"default": {"weights": {1: -5, 2: 105}}}, "traffic.default.weights"),
        ({"default": {"weights": {"x": 100}}}, "traffic.default.weights"),
        ({"default": {"weights": {1: 100}, "sticky": "x user"}}, "'x user' is no attribute of a request"),
        ({"default": {"weights": {1: 100}, "sticky": "input:"}}, "write input:NAME"),
        ({"": {"weights": {1: 100}}}, "traffic"),
        (
            {"default": {"weights": {1: 100}, "audience": [{"attribute": "a", "equals": "x"}]}},
            "exactly one of version and label",
        ),
        (
            {
                "default": {
                    "weights": {1: 100},
                    "audience": [{"attribute": "a", "equals": "x", "matches": "x", "version": 1}],
                }
            },
            "exactly one of equals, one_of and matches",
        ),
        (
            {"default": {"weights": {1: 100}, "audience": [{"attribute": "a", "matches": "(", "version": 1}]}},
            "'(' is no regular expression",
        ),
        ({"default": {"weights": {1: 90, 2: 10.0001}}}, "add up to 100.0001; make them add up to 100"),
        (
            {"default": {"weights": {1: 100}, "audience": [{"attribute": "a", "matches": "(a)\\1", "version": 1}]}},
            "\\1 is not known here",
        ),
        (
            {"stable": {"weights": {1: 100}, "audience": [{"attribute": "a", "equals": "x", "label": "nope"}]}},
            "sends an audience of stable to label nope, which it does not have",
        ),
        ({"default": {"weights": {1: 100}, "mirror": {"version": 2}}}, "traffic.default.mirror.share"),
        ({"default": {"weights": {1: 100}, "mirror": {"version": 2, "share": 101}}}, "traffic.default.mirror.share"),
        (
            {
                "default": {
                    "weights": {1: 100},
                    "mirror": {"version": 2, "share": 9, "tolerances": {"y": {"relative": -1}}},
                }
            },
            "traffic.default.mirror.tolerances.y.relative",
        ),
    ],
)
def test_what_is_refused(traffic: Any, complaint: str) -> None:
    """The error says what is wrong with it and where."""
    with pytest.raises(ConfigError) as caught:
        config(traffic)
    assert complaint in str(caught.value)


def test_a_label_called_default() -> None:
    """It could not be told from the requests that name none."""
    with pytest.raises(ConfigError, match="has a label default"):
        config({"default": {"weights": {1: 100}}}, labels={"default": 1})


def test_edits() -> None:
    """One target is shared in another way, or no more; the others stay as they are, and a moved label takes along the
    audience that is sent to it."""
    changed = set_traffic(config(), "m", "default", {"weights": {3: 50, 4: 50}})
    assert [str(change) for change in make_plan(config(), changed).changes] == [
        "~ model m traffic.default.weights.3: 90.0 -> 50.0 (at once)",
        "~ model m traffic.default.weights.4: 10.0 -> 50.0 (at once)",
        '~ model m traffic.default.sticky: x-user -> null (at once)',
    ]
    assert delete_traffic(changed, "m", "default") == config({"stable": SHARED["stable"]})
    assert traffic_of(set_label(config(), "m", "canary", 6).models[0])["stable"].rules[1].version == 6


@pytest.mark.parametrize(
    ("edit", "error", "complaint"),
    [
        (lambda given: set_traffic(given, "n", "default", {"weights": {1: 100}}), NotFound, "There is no model n"),
        (lambda given: set_traffic(given, "m", "default", {"weights": {1: 1}}), ConfigError, "add up to 1;"),
        (lambda given: set_traffic(given, "m", "default", {"shares": {1: 1}}), ConfigError, "shares"),
        (lambda given: delete_traffic(given, "m", "nope"), NotFound, "those shared are: default, stable"),
        (lambda given: delete_label(given, "m", "canary"), ConfigError, "to label canary, which it does not have"),
    ],
)
def test_edits_that_are_refused(edit: Any, error: type[ServingError], complaint: str) -> None:
    """The error names what there is."""
    with pytest.raises(error) as caught:
        edit(config())
    assert complaint in str(caught.value)
