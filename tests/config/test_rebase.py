"""A new deployment on top of what was changed at run time."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving_app.config import ServingConfig, parse
from serving_app.config.rebase import rebase
from tests.config.configs import configs, models

CASES: dict[str, tuple[dict[str, int], ...]] = {
    "an unchanged entry keeps its edits": ({"a": 1}, {"a": 2}, {"a": 1}, {"a": 2}),
    "a changed entry is taken whole": ({"a": 1}, {"a": 2}, {"a": 3}, {"a": 3}),
    "a new entry is added": ({"a": 1}, {"a": 2}, {"a": 1, "b": 1}, {"a": 2, "b": 1}),
    "an entry that goes is removed, edited or not": ({"a": 1, "b": 1}, {"a": 1, "b": 2}, {"a": 1}, {"a": 1}),
    "a model added at run time stays": ({"a": 1}, {"a": 1, "x": 1}, {"a": 3}, {"a": 3, "x": 1}),
    "a model added at run time is deployed now": ({"a": 1}, {"a": 1, "x": 1}, {"a": 1, "x": 2}, {"a": 1, "x": 2}),
    "a model removed at run time stays away": ({"a": 1, "b": 1}, {"b": 1}, {"a": 1, "b": 2}, {"b": 2}),
    "a changed entry brings it back": ({"a": 1, "b": 1}, {"b": 1}, {"a": 2, "b": 1}, {"b": 1, "a": 2}),
    "a new order counts": ({"a": 1, "b": 1}, {"a": 1, "b": 1}, {"b": 1, "a": 1}, {"b": 1, "a": 1}),
    "an old order stays as in force": ({"a": 1, "b": 1}, {"b": 1, "a": 1}, {"a": 1, "b": 2}, {"b": 2, "a": 1}),
    "all models go": ({"a": 1}, {"a": 2}, {}, {}),
    "the first models come": ({}, {}, {"a": 1}, {"a": 1}),
}
"""Replicas by model: deployed before, in force, deployed now, and in force then."""


def config(replicas: dict[str, int], **others: Any) -> ServingConfig:
    """A configuration whose models differ in their replicas."""
    return parse(
        {"models": {name: {"base_path": "/m", "replicas": count} for name, count in replicas.items()}, **others}
    )


@pytest.mark.parametrize("case", CASES)
def test_models(case: str) -> None:
    """Per model, what is news in the new deployment counts, and what is not stays as it was changed at run time."""
    old_base, in_force, new_base, expected = map(config, CASES[case])
    assert rebase(old_base, in_force, new_base) == expected


@pytest.mark.parametrize(
    ("old_base", "in_force", "new_base", "expected"),
    [
        ({}, {"poll_interval_s": 5}, {}, {"poll_interval_s": 5}),
        ({}, {"poll_interval_s": 5}, {"poll_interval_s": 7}, {"poll_interval_s": 7}),
        ({"poll_interval_s": 7}, {"poll_interval_s": 5}, {}, {}),
        ({}, {"poll_interval_s": 5}, {"state_uri": "/s"}, {"poll_interval_s": 5, "state_uri": "/s"}),
        ({}, {"load": {"quick_retries": 1}}, {"load": {"slow_retry_s": 9}}, {"load": {"slow_retry_s": 9}}),
    ],
)
def test_settings_of_the_whole(old_base: Any, in_force: Any, new_base: Any, expected: Any) -> None:
    """Each setting outside `models` is as the new deployment says where that is news, else as it is in force."""
    assert rebase(parse(old_base), parse(in_force), parse(new_base)) == parse(expected)


def test_models_of_a_file() -> None:
    """Models in force stay until a file that is to replace them is read, and go when no file is named any more."""
    file, other = {"model_config_file": "/f"}, {"model_config_file": "/g"}
    plain, in_force = config({"a": 1}), config({"b": 1}, **file)
    assert rebase(plain, config({"a": 2}), config({}, **file)) == config({"a": 2}, **file)
    assert rebase(config({}, **file), in_force, config({}, **file)) == in_force
    assert rebase(config({}, **file), in_force, config({}, **other)) == config({"b": 1}, **other)
    assert rebase(config({}, **file), in_force, plain) == plain


@settings(max_examples=30)
@given(configs(), configs())
def test_nothing_new_changes_nothing(base: ServingConfig, in_force: ServingConfig) -> None:
    """The same deployment once more keeps everything that is in force."""
    assert rebase(base, in_force, base) == in_force


@settings(max_examples=30)
@given(configs(), configs())
def test_without_edits_the_new_deployment_counts(old_base: ServingConfig, new_base: ServingConfig) -> None:
    """Where nothing was changed at run time, what is deployed is in force."""
    assert rebase(old_base, old_base, new_base) == new_base


SIMILAR = configs(
    models=st.lists(models(st.sampled_from("abc")), max_size=3, unique_by=lambda each: each.name).map(tuple)
)


@settings(max_examples=30)
@given(SIMILAR, SIMILAR, SIMILAR)
def test_every_entry_has_a_source(old_base: ServingConfig, in_force: ServingConfig, new_base: ServingConfig) -> None:
    """Every entry comes whole from the new deployment or from what is in force, and deploying again adds nothing."""
    after = rebase(old_base, in_force, new_base)
    assert {model.name for model in after.models} >= {
        model.name for model in new_base.models if model not in old_base.models
    }
    assert all(model in (*new_base.models, *in_force.models) for model in after.models)
    assert rebase(new_base, after, new_base) == after
