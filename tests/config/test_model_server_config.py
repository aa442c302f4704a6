"""TensorFlow Serving's list of models: what is read, what is refused in which words, what is written."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from google.protobuf import text_format
from hypothesis import given, settings
from hypothesis import strategies as st

from serving_app.config import (
    BatchingConfig,
    ConfigError,
    ModelConfig,
    ServingConfig,
    parse,
    read_model_server_config,
    read_reload_config,
    to_models,
    write_model_server_config,
)
from serving_app.core.errors import FailedPrecondition, InvalidArgument, ServingError
from serving_app.core.policies import All, Latest, Specific
from serving_app.protocol import messages
from tests.config.configs import configs

NOTHING = ServingConfig()


def read(entries: str, before: ServingConfig = NOTHING) -> tuple[ModelConfig, ...]:
    """The models of a list with these entries."""
    return to_models(read_model_server_config(f"model_config_list {{ {entries} }}"), before)


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ('model_platform: "tensorflow"', {}),
        ("model_type: TENSORFLOW", {}),
        ("model_type: 1", {}),
        ('model_platform: "my.package:Loader"', {"platform": "my.package:Loader"}),
        ("model_type: 1 model_version_policy {}", {"version_policy": Latest(1)}),
        ("model_type: 1 model_version_policy { latest {} }", {"version_policy": Latest(0)}),
        ("model_type: 1 model_version_policy { latest { num_versions: 3 } }", {"version_policy": Latest(3)}),
        ("model_type: 1 model_version_policy: { all: {} }", {"version_policy": All()}),
        (
            "model_type: 1 model_version_policy { specific { versions: 5 versions: 3 } }",
            {"version_policy": Specific((5, 3))},
        ),
        ("model_type: 1 model_version_policy { specific { versions: [5, 3] } }", {"version_policy": Specific((5, 3))}),
        ("model_type: 1 model_version_policy { specific {} }", {"version_policy": Specific(())}),
        (
            "model_type: 1 version_labels { key: 'stable' value: 3 } version_labels { key: 'canary' value: 4 }",
            {"labels": {"stable": 3, "canary": 4}},
        ),
        (
            "model_type: 1 version_labels { key: 'x' value: 3 } version_labels { key: 'x' value: 4 }",
            {"labels": {"x": 4}},
        ),
    ],
)
def test_reads_entries(entry: str, expected: dict[str, Any]) -> None:
    """Each form in which a model can be written means the same model as in our own form."""
    assert read(f"config {{ name: 'm' base_path: '/m' {entry} }}") == (
        ModelConfig(**{"name": "m", "base_path": "/m", **expected}),
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("model_config_list {\n  config {\n    nmae: 'm'\n  }\n}", "line 3, column 5: Message type"),
        ("model_config_list {\n  config {\n    nmae: 'm'\n  }\n}", 'has no field named "nmae"'),
        ("model_config_list { config { name: 'm' base_path: '/m", "line 1, column 51"),
        ("model_config_list { config { name: 'm' }", 'Expected "}"'),
        ("model_config_list { config { name: 7 } }", "line 1, column 36"),
        ("model_config_list { config { model_type: FISH } }", "has no value named FISH"),
        ("model_config_list { config { model_version_policy { all {} latest {} } } }", "is specified along with"),
        ("model_config_list {} }", "line 1, column 22"),
    ],
)
def test_tells_where_a_text_is_wrong(text: str, words: str) -> None:
    """A text that is no ModelServerConfig to its end is refused with the file, the line, the column and the reason."""
    with pytest.raises(ConfigError) as caught:
        read_model_server_config(text, "/etc/models.config")
    assert str(caught.value).startswith("Invalid protobuf file: '/etc/models.config', line ")
    assert words in str(caught.value)


def test_tells_of_texts_without_a_file() -> None:
    """Where no file is known, the error names the place alone."""
    with pytest.raises(ConfigError, match=r"^Invalid protobuf text, line 1, column 1: "):
        read_model_server_config("models {}")
    with pytest.raises(ConfigError, match=r"^Invalid protobuf text: Type no\.Such not found"):
        read_model_server_config("custom_model_config { [type.googleapis.com/no.Such] {} }")


def test_refuses_every_half_of_a_file() -> None:
    """Wherever a file ends too early, all of it is refused, or nothing of it had been written yet."""
    text = write_model_server_config(parse({"models": {"m": {"base_path": "/m", "labels": {"x": 1}}, "n": "/n"}}))
    for end in range(len(text.rstrip())):
        with suppress(ConfigError):
            assert read_model_server_config(text[:end]) == messages.ModelServerConfig()


TWO = "config { name: 'm' base_path: '/m' model_type: 1 } config { name: 'm' base_path: 'x' }"


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (TWO, "Illegal to list model m multiple times in config list"),
        (
            "config { name: 'm' base_path: 'models/m' }",
            "Expected model m to have an absolute path or URI; got base_path()=models/m",
        ),
        ("config { name: 'm' }", "Expected model m to have an absolute path or URI; got base_path()="),
        (
            "config { name: 'm' base_path: '/m' model_platform: 'fish' }",
            "Model m requests unsupported platform fish",
        ),
        (
            "config { name: 'm' base_path: '/m' }",
            "Illegal setting neither ModelServerConfig::model_type (deprecated) nor ModelServerConfig::model_platform, "
            "model name is m",
        ),
        (
            "config { name: 'm' base_path: '/m' model_type: 1 model_platform: 'tensorflow' }",
            "Illegal setting both ModelServerConfig::model_type (deprecated) and ModelServerConfig::model_platform, "
            "model name is m",
        ),
        (
            "config { name: 'm' base_path: '/m' model_type: OTHER }",
            "ModelServerConfig::model_type choice 2 not supported.",
        ),
        (
            "config { name: 'old' base_path: '/m' model_platform: 'my:Loader' }",
            "Illegal to change a model's platform. For model old platform was tensorflow and new platform requested is "
            "my:Loader",
        ),
        (
            "config { name: 'm' base_path: '/m' model_type: 1 logging_config {} }",
            "No request-logger-creator provided. Model m has a logging_config, and requests are not logged here; "
            "remove it",
        ),
    ],
)
def test_refuses_as_tensorflow_serving_does(entries: str, message: str) -> None:
    """Each rule is told in TensorFlow Serving's words."""
    with pytest.raises(InvalidArgument) as caught:
        read(entries, parse({"models": {"old": "/old"}}))
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("entries", "beginning"),
    [
        (f"{TWO} config {{ name: 'old' base_path: '/m' model_platform: 'my:Loader' }}", "Illegal to list model m"),
        (
            "config { name: 'm' base_path: '/m' } config { name: 'old' base_path: '/m' model_platform: 'my:Loader' }",
            "Illegal to change a model's platform.",
        ),
        (
            "config { name: 'm' base_path: '/m' } config { name: 'n' base_path: 'n' }",
            "Expected model n to have an absolute path",
        ),
        (
            "config { name: 'm' base_path: '/m' logging_config {} }",
            "Illegal setting neither ModelServerConfig::model_type",
        ),
    ],
)
def test_the_first_broken_rule_speaks(entries: str, beginning: str) -> None:
    """Rules are held against all entries one after the other, in TensorFlow Serving's order."""
    with pytest.raises(InvalidArgument) as caught:
        read(entries, parse({"models": {"old": "/old"}}))
    assert str(caught.value).startswith(beginning)


@pytest.mark.parametrize(
    ("entries", "beginning"),
    [
        (
            "config { name: 'm' base_path: 'http://host/m' model_type: 1 }",
            "Model m has 1 problem:\n  base_path: http://host/m is on a web server",
        ),
        ("config { base_path: '/m' model_type: 1 }", "Model (without a name) has 1 problem:\n  name: "),
        (
            "config { name: 'm' base_path: '/m' model_type: 1 model_version_policy { specific { versions: -1 } } }",
            "Model m has 1 problem:\n  version_policy: `specific` needs whole numbers from 0",
        ),
        (
            "config { name: 'm' base_path: '/m' model_type: 1 version_labels { key: 'x' value: -1 } }",
            "Model m has 1 problem:\n  labels.x: ",
        ),
    ],
)
def test_refuses_what_cannot_be_served_here(entries: str, beginning: str) -> None:
    """What TensorFlow Serving takes and our models cannot be is told with its place."""
    with pytest.raises(ConfigError) as caught:
        read(entries)
    assert str(caught.value).startswith(beginning)


def test_says_nothing_changes_nothing() -> None:
    """A configuration without a list leaves the models as they are, as an empty file does."""
    before = parse({"models": {"m": "/m"}})
    assert to_models(read_model_server_config(" # nothing\n"), before) == before.models
    assert to_models(read_model_server_config("model_config_list {}"), before) == ()


def test_refuses_other_kinds() -> None:
    """A custom configuration cannot follow on a list."""
    with pytest.raises(FailedPrecondition, match=r"^Cannot transition to requested config\. It is only legal to"):
        to_models(read_model_server_config("custom_model_config {}"), NOTHING)


def test_keeps_what_the_form_cannot_express() -> None:
    """A model that was there keeps its other settings; path, version policy and labels are as the new entry says."""
    before = ModelConfig(
        name="m",
        base_path="/old",
        labels={"stable": 1},
        version_policy=All(),
        num_gpus=0.5,
        replicas=3,
        batching=BatchingConfig(max_batch_size=8),
        storage_options={"key": "k"},
    )
    entries = "config { name: 'm' base_path: '/new' model_type: 1 } config { name: 'n' base_path: '/n' model_type: 1 }"
    assert read(entries, ServingConfig(models=(before,))) == (
        before.model_copy(update={"base_path": "/new", "labels": {}, "version_policy": Latest()}),
        ModelConfig(name="n", base_path="/n"),
    )


def test_reload_needs_a_list() -> None:
    """Of a request's configuration only a list is taken, an empty one too; anything else is told as there."""
    listed = messages.ModelServerConfig(model_config_list={})
    assert read_reload_config(listed.SerializeToString()) == listed
    for other in (b"", messages.ModelServerConfig(custom_model_config={}).SerializeToString()):
        with pytest.raises(InvalidArgument) as caught:
            read_reload_config(other)
        assert str(caught.value) == (
            "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList is currently "
            "supported"
        )
    with pytest.raises(InvalidArgument, match="is no serialized ModelServerConfig"):
        read_reload_config(b"\xff\xff")


def test_writes_what_people_write() -> None:
    """Written entries have what the form can express, without the default policy."""
    config = parse({"models": {"m": {"base_path": "/m", "labels": {"é": 1}}, "n": {"base_path": "/n", "num_gpus": 1}}})
    assert write_model_server_config(config) == (
        "model_config_list {\n"
        '  config {\n    name: "m"\n    base_path: "/m"\n    model_platform: "tensorflow"\n'
        '    version_labels {\n      key: "é"\n      value: 1\n    }\n  }\n'
        '  config {\n    name: "n"\n    base_path: "/n"\n    model_platform: "tensorflow"\n  }\n'
        "}\n"
    )
    assert write_model_server_config(NOTHING) == "model_config_list {\n}\n"


@settings(max_examples=30)
@given(configs(), configs())
def test_written_models_read_back(config: ServingConfig, before: ServingConfig) -> None:
    """What is written and read again over itself is the same; over anything else it has the same five settings."""
    message = read_model_server_config(write_model_server_config(config))
    assert to_models(message, config) == config.models
    expressible = {"name", "base_path", "platform", "version_policy", "labels"}
    other = to_models(message, before)
    assert [model.model_dump(include=expressible) for model in other] == [
        model.model_dump(include=expressible) for model in config.models
    ]


@settings(max_examples=100)
@given(st.binary(max_size=80))
def test_any_message_is_read_or_refused(serialized: bytes) -> None:
    """Whatever a request carries, the answer is models or a ServingError."""
    with suppress(ServingError):
        to_models(read_reload_config(serialized), NOTHING)


@settings(max_examples=100)
@given(
    st.builds(
        messages.ModelConfig,
        name=st.sampled_from(["", "m", "n"]),
        base_path=st.sampled_from(["", "/m", "m", "s3://b", "http://x"]),
        model_type=st.sampled_from([0, 1, 2, 99]),
        model_platform=st.sampled_from(["", "tensorflow", "a:b", "fish"]),
        version_labels=st.dictionaries(st.sampled_from(["", "x"]), st.sampled_from([-1, 0, 2**63 - 1])),
        model_version_policy=st.sampled_from([{}, {"specific": {"versions": [-1]}}, {"latest": {}}]),
    )
)
def test_any_entry_is_read_or_refused(entry: Any) -> None:
    """Whatever an entry says, the answer is a model that can be in force or a ServingError."""
    message = messages.ModelServerConfig(model_config_list={"config": [entry]})
    text = text_format.MessageToString(message, descriptor_pool=messages.POOL)
    with suppress(ServingError):
        models = to_models(read_model_server_config(text), NOTHING)
        assert ServingConfig(models=models).models == models
