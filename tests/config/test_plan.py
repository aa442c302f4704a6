"""Edits: what each would change, which are refused, and the small ones that have a name."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings

from serving_app.config import (
    ConfigError,
    ModelConfig,
    ServingConfig,
    add_model,
    check_edit,
    delete_label,
    make_plan,
    parse,
    replace_models,
    set_label,
)
from serving_app.config.plan import EFFECTS, LISTINGS_AND_NEW_LOADS, MODEL_EFFECTS
from serving_app.core.errors import FailedPrecondition, InvalidArgument, NotFound
from tests.config.configs import configs


def model(**settings: Any) -> dict[str, Any]:
    return {"models": {"m": {"base_path": "/m", **settings}}}


@pytest.mark.parametrize(
    ("before", "after", "lines"),
    [
        ({}, {}, ["nothing changes"]),
        ({}, model(), ["+ model m: /m (its versions are loaded)"]),
        (model(), {}, ["- model m: /m (its versions are unloaded)"]),
        (
            {"models": {"a": "/a", "b": "/b", "c": "/c"}},
            {"models": {"d": "/d", "b": "/x"}},
            [
                "+ model d: /d (its versions are loaded)",
                f"~ model b base_path: /b -> /x ({LISTINGS_AND_NEW_LOADS})",
                "- model a: /a (its versions are unloaded)",
                "- model c: /c (its versions are unloaded)",
            ],
        ),
        ({"models": {"a": "/a", "b": "/b"}}, {"models": {"b": "/b", "a": "/a"}}, ["nothing changes"]),
        (
            model(labels={"stable": 1, "old": 1}),
            model(labels={"stable": 2, "canary": 3}),
            [
                "~ model m labels.stable: 1 -> 2 (at once)",
                "- model m labels.old: 1 (at once)",
                "+ model m labels.canary: 3 (at once)",
            ],
        ),
        (
            model(),
            model(version_policy="all", aspired_version_policy="resource_preserving"),
            [
                '~ model m version_policy: {"latest": 1} -> all (at once)',
                "~ model m aspired_version_policy: availability_preserving -> resource_preserving (at once)",
            ],
        ),
        (
            model(version_policy={"latest": 2}),
            model(version_policy={"specific": [2]}),
            ['~ model m version_policy: {"latest": 2} -> {"specific": [2]} (at once)'],
        ),
        (
            model(replicas=2),
            model(autoscaling={"max_replicas": 3}),
            [
                "~ model m replicas: 2 -> null (scaled in place)",
                '~ model m autoscaling: null -> {"min_replicas": 1, "max_replicas": 3, "target_ongoing_requests": 2.0, '
                '"upscale_delay_s": 5.0, "downscale_delay_s": 300.0} (scaled in place)',
            ],
        ),
        (
            model(autoscaling={"max_replicas": 3}),
            model(autoscaling={"max_replicas": 4}),
            ["~ model m autoscaling.max_replicas: 3 -> 4 (scaled in place)"],
        ),
        (
            model(),
            model(placement="colocated"),
            ["~ model m placement: dedicated -> colocated (moved without a gap)"],
        ),
        (
            model(session={"intra_op_parallelism": 1}, tags="serve"),
            model(session={"intra_op_parallelism": 2}, tags="serve,gpu"),
            [
                "~ model m session.intra_op_parallelism: 1 -> 2 (for versions loaded from now on)",
                '~ model m tags: ["serve"] -> ["serve", "gpu"] (for versions loaded from now on)',
            ],
        ),
        (
            {"poll_interval_s": 1, "load": {"quick_retries": 5}},
            {"poll_interval_s": 2, "load": {"quick_retries": 6}},
            ["~ load.quick_retries: 5 -> 6 (at once)", "~ poll_interval_s: 1.0 -> 2.0 (at once)"],
        ),
        (
            {"gateway": {"rest_port": 1}},
            {"gateway": {"rest_port": None}, "state_uri": "/state"},
            [
                "~ gateway.rest_port: 1 -> null (only by a new deployment)",
                "~ state_uri: null -> /state (only by a new deployment)",
            ],
        ),
        (
            {"stores": {"s3": {"endpoint_url": "http://a", "secret": "old"}}},
            {"stores": {"s3": {"endpoint_url": "http://b", "secret": "new", "token": {"id": 1}}}},
            [
                f"~ stores.s3.endpoint_url: http://a -> http://b ({LISTINGS_AND_NEW_LOADS})",
                f"~ stores.s3.secret: *** -> *** ({LISTINGS_AND_NEW_LOADS})",
                f"+ stores.s3.token: *** ({LISTINGS_AND_NEW_LOADS})",
            ],
        ),
        (
            model(storage_options={"token": {"id": "old"}}),
            model(storage_options={"token": {"id": "new", "word": "new"}}),
            [
                f"~ model m storage_options.token: *** -> *** ({LISTINGS_AND_NEW_LOADS})",
            ],
        ),
        (model(labels={"a\nb": 1}), model(), ['- model m labels."a\\nb": 1 (at once)']),
        (model(done_marker="DONE"), model(), ["~ model m done_marker: DONE -> null (at once)"]),
    ],
)
def test_plans(before: dict[str, Any], after: dict[str, Any], lines: list[str]) -> None:
    """A plan tells each setting that changes in one line, with both values and when that takes effect."""
    assert str(make_plan(parse(before), parse(after))).splitlines() == lines


def test_every_setting_has_an_effect() -> None:
    """No setting can change without a plan that says so."""
    assert {*EFFECTS, "models"} == set(ServingConfig.model_fields)
    assert {*MODEL_EFFECTS, "name"} == set(ModelConfig.model_fields)


def without_order(config: ServingConfig) -> ServingConfig:
    return config.model_copy(update={"models": tuple(sorted(config.models, key=lambda model: model.name))})


@settings(max_examples=30)
@given(configs(), configs())
def test_a_plan_is_empty_if_nothing_changes(before: ServingConfig, after: ServingConfig) -> None:
    """A plan is empty exactly where both configurations say the same; the order of models is no change."""
    plan = make_plan(before, after)
    assert make_plan(before, before).is_empty
    assert plan.is_empty is (without_order(before) == without_order(after))


@pytest.mark.parametrize(
    ("before", "after", "named"),
    [
        ({}, {"gateway": {"rest_port": 1, "replicas": 2}}, "gateway.replicas, gateway.rest_port"),
        ({}, {"state_uri": "/s", "poll_interval_s": 3}, "state_uri"),
        (
            {"model_config_file": "/f"},
            {"model_config_file": "/g", "model_config_file_poll_s": 1},
            "model_config_file, model_config_file_poll_s",
        ),
    ],
)
def test_refuses_what_needs_a_new_deployment(before: dict[str, Any], after: dict[str, Any], named: str) -> None:
    """Every setting that cannot change at run time is named, with what to do instead."""
    with pytest.raises(FailedPrecondition) as caught:
        check_edit(parse(before), parse(after))
    assert str(caught.value).startswith(f"Only a new deployment can change {named}. Deploy the application again with")


def test_refuses_another_platform() -> None:
    """A model keeps its platform, in TensorFlow Serving's words; one of that name that comes anew is free."""
    with pytest.raises(InvalidArgument) as caught:
        check_edit(parse(model()), parse(model(platform="my:Loader")))
    assert str(caught.value) == (
        "Illegal to change a model's platform. For model m platform was tensorflow and new platform requested is "
        "my:Loader"
    )
    check_edit(parse({}), parse(model(platform="my:Loader")))


def test_allows_the_rest() -> None:
    """Everything else may change at run time."""
    everything = {
        **model(labels={"x": 1}, num_gpus=1, batching={}, storage_options={"key": "k"}),
        "load": {"quick_retries": 1},
        "stores": {"s3": {"key": "k"}},
        "allow_version_labels_for_unavailable_models": True,
        "cache_dir": "/cache",
    }
    check_edit(parse({}), parse(everything))
    check_edit(parse(everything), parse({}))


def test_a_model_is_added_beside_the_others() -> None:
    """One more model leaves the others as they are; one of a name that is there is refused, whatever it is."""
    before = parse({"models": {"m": "/m"}})
    after = add_model(before, {"name": "n", "base_path": "/n"})
    assert [(model.name, model.base_path) for model in after.models] == [("m", "/m"), ("n", "/n")]
    with pytest.raises(FailedPrecondition, match="there is a model n already"):
        add_model(after, {"name": "n", "base_path": "/n"})
    with pytest.raises(ConfigError, match="base_path"):
        add_model(before, {"name": "n"})


def test_labels() -> None:
    """A label is set, moved and deleted in one model, and nothing else changes."""
    before = parse({"models": {"m": {"base_path": "/m", "labels": {"old": 1}, "num_gpus": 1}, "n": "/n"}})
    after = set_label(set_label(before, "m", "stable", 2), "m", "old", 3)
    assert str(make_plan(before, after)).splitlines() == [
        "~ model m labels.old: 1 -> 3 (at once)",
        "+ model m labels.stable: 2 (at once)",
    ]
    assert delete_label(set_label(after, "m", "old", 1), "m", "stable") == before


@pytest.mark.parametrize(
    ("edit", "kind", "message"),
    [
        (lambda config: set_label(config, "x", "stable", 1), NotFound, "There is no model x; the models are: m, n"),
        (lambda config: delete_label(config, "x", "stable"), NotFound, "There is no model x; the models are: m, n"),
        (lambda config: delete_label(config, "m", "x"), NotFound, "Model m has no label x; its labels are: a, b"),
        (lambda config: delete_label(config, "n", "x"), NotFound, "Model n has no label x; there are none"),
        (lambda config: set_label(config, "m", "x", -1), ConfigError, "Model m has 1 problem:\n  labels.x: "),
        (lambda config: set_label(config, "m", "x", 2**63), ConfigError, "Model m has 1 problem:\n  labels.x: "),
        (lambda config: set_label(config, "m", "", 1), ConfigError, "Model m has 1 problem:\n  labels"),
        (
            lambda config: replace_models(config, [*config.models, config.models[0]]),
            ConfigError,
            "The configuration has 1 problem:\n  models: Illegal to list model n multiple times in config list",
        ),
    ],
)
def test_refuses_edits(edit: Any, kind: type[Exception], message: str) -> None:
    """An edit of what is not there, or into what cannot be, says so and names what there is."""
    config = parse({"models": {"n": "/n", "m": {"base_path": "/m", "labels": {"b": 1, "a": 1}}}})
    with pytest.raises(kind) as caught:
        edit(config)
    assert str(caught.value).startswith(message)


def test_replaces_models() -> None:
    """The models are replaced, and the settings of the whole stay."""
    before, other = parse({"models": {"m": "/m"}, "poll_interval_s": 3}), parse({"models": {"n": "/n"}})
    assert replace_models(before, other.models) == parse({"models": {"n": "/n"}, "poll_interval_s": 3})
