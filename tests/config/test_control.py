"""The bodies of control requests: what they may say, and how what is wrong with them is told."""

from __future__ import annotations

from typing import Any

import pytest
from jsonschema import Draft202012Validator

from serving_app.config import ConfigError
from serving_app.config.control import LabelBody, Nothing, RolloutBody, ValueBody, body_schemas, read_body
from serving_app.config.rollouts import StrategyConfig
from serving_app.config.settings import Settings
from serving_app.config.traffic import TrafficConfig

START = '{"model": "m", "to": 2, "strategy": "careful"}'


@pytest.mark.parametrize(
    ("kind", "body", "message"),
    [
        (LabelBody, "", "The body is no JSON"),
        (LabelBody, "[1]", "must be a JSON object, and it is list"),
        (LabelBody, "{}", "version: this has no default and must be given: The version's number."),
        (LabelBody, '{"version": "2"}', "version: Input should be a valid integer; got '2'"),
        (LabelBody, '{"version": true}', "version: Input should be a valid integer; got True"),
        (LabelBody, '{"version": -1}', "version: Input should be greater than or equal to 0"),
        (LabelBody, '{"version": 9223372036854775808}', "version: Input should be less than or equal to"),
        (LabelBody, f'{{"version": {"1" * 5000}}}', "The body is no JSON"),
        (LabelBody, '{"version": 1, "Version": 2}', "Version: there is no such setting; did you mean version?"),
        (LabelBody, '{"version": 1, "version": 2}', "'version' stands twice in one object"),
        (LabelBody, '{"version": 1, "a": {"b": 1, "c": 2, "b": 1, "c": 2}}', "'b' stands twice in one object"),
        (LabelBody, '{"version": NaN}', "NaN is no number there"),
        (LabelBody, "[" * 100_000, "The body is nested too deep"),
        (Nothing, '{"force": true}', "force: there is no such setting"),
        (RolloutBody, '{"model": "", "to": 2, "strategy": "s"}', "model: String should have at least 1 character"),
        (RolloutBody, '{"model": "m", "to": 2, "strategy": 3}', "strategy"),
        (ValueBody, '{"name": "n", "value": "1"}', "value: Input should be a valid number"),
        (ValueBody, '{"name": "n", "value": 1e999}', "value: Input should be a finite number"),
        (ValueBody, '{"name": "\\ud800", "value": 1}', "The body is no text in UTF-8"),
        (ValueBody, '{"name": "n", "value": 1, "\\udc80": 1}', "The body is no text in UTF-8"),
        (TrafficConfig, '{"weights": {"1": 50, "2": 40}}', "weights: the weights are percentages and add up to 90"),
        (TrafficConfig, '{"weights": {"1": 100}, "sticki": "x"}', "sticki: there is no such setting; did you mean"),
    ],
)
def test_what_is_wrong_is_told_by_its_place(kind: type[Settings], body: str, message: str) -> None:
    """Nothing is guessed or passed over: each mistake is named, with the field that it is in."""
    with pytest.raises(ConfigError) as caught:
        read_body(body.encode(), kind)
    assert message in str(caught.value)


def test_a_body_that_is_no_text() -> None:
    """Bytes that are no UTF-8 are told as such."""
    with pytest.raises(ConfigError, match="no text in UTF-8"):
        read_body(b'{"version": "\xff"}', LabelBody)


def test_a_body_is_checked_and_handed_on_as_written() -> None:
    """The checked one has the defaults; the other is what stood there."""
    body, written = read_body(START.encode(), RolloutBody)
    assert (body.model, body.to, body.target, body.strategy) == ("m", 2, "default", "careful")
    assert written == {"model": "m", "to": 2, "strategy": "careful"}


STEPS: list[Any] = [1, {"weight": 10}, {"pause_s": "until_told"}, {"mirror": 5.5}]


@pytest.mark.parametrize(
    ("kind", "body", "is_right"),
    [
        (StrategyConfig, {"steps": STEPS}, True),
        (StrategyConfig, {"steps": ["1"]}, False),
        (StrategyConfig, {"steps": [{"wait": 1}]}, False),
        (RolloutBody, {"model": "m", "to": 2, "strategy": "careful"}, True),
        (RolloutBody, {"model": "m", "to": 2, "strategy": {"steps": STEPS}}, True),
        (RolloutBody, {"model": "m", "to": 2, "strategy": {"steps": []}}, False),
        (TrafficConfig, {"weights": {"1": 50, "2": 50}}, True),
        (TrafficConfig, {"weights": {"1": 100}, "more": 1}, False),
    ],
)
def test_schemas_say_what_may_stand_there(kind: type[Settings], body: dict[str, Any], is_right: bool) -> None:
    """The JSON schemas agree with what is read, also where a number stands for a step and where a strategy is named."""
    schemas = body_schemas([RolloutBody, TrafficConfig])
    schema = {"$ref": f"#/components/schemas/{kind.__name__}", "components": {"schemas": schemas}}
    assert Draft202012Validator(schema).is_valid(body) is is_right


def test_schemas_lead_nowhere_else() -> None:
    """Descriptions have no links to pages that are not beside the document."""
    assert "](" not in str(body_schemas([RolloutBody, TrafficConfig]))
