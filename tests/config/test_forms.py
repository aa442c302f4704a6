"""Two forms of one thing: which of them a text is in, and what follows from applying it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings

from serving_app.config import (
    ConfigError,
    ServingConfig,
    parse,
    read_any,
    read_edit,
    read_model_file,
    redact,
    to_yaml,
    write_model_server_config,
)
from serving_app.config.forms import is_proto_text
from tests.config.configs import configs


@pytest.mark.parametrize(
    ("text", "is_proto"),
    [
        ("model_config_list {}", True),
        ("model_config_list: { config: { name: 'm' } }", True),
        ("\n # with words\n\n  model_config_list\n{", True),
        ("# models: {}\r\nmodel_config_list <>", True),
        ("model_config_list", True),
        ("custom_model_config {", True),
        ("model_conf_list { config {} }", True),
        ("model_config_list_ : {}", True),
        ("config { name: 'm' }", True),
        ("modles { }", True),
        ("models {", False),
        ("models: {m: /m}", False),
        ("models:\n  m: /m", False),
        ("{models: {m: /m}}", False),
        ('{"models": {"m": "/m"}}', False),
        ("---\nmodels: {}", False),
        ("model_config_file: /f", False),
        ("model_config_file_poll_s: 1", False),
        ("modles: {m: /m}", False),
        ("config: {name: m}", False),
        ("- m", False),
        ("", False),
        ("# only words", False),
        ("[type.googleapis.com/x]: {}", False),
    ],
)
def test_tells_the_forms_apart(text: str, is_proto: bool) -> None:
    """The first word decides; where it is neither, only a brace that opens a message makes it a protobuf text."""
    assert is_proto_text(text) is is_proto


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("model_config_list { config { name: 'm' ", "Invalid protobuf file: 'f', line 1, column 36: "),
        ("model_conf_list {}", 'has no field named "model_conf_list"'),
        ("config { name: 'm' }", 'has no field named "config"'),
        ("models: {m: /m", "f is no valid YAML: "),
        ("modles: {m: /m}", "modles: there is no such setting; did you mean models?"),
        ("models {m: /m}", "models {m: there is no such setting; did you mean models?"),
        ("models { m }", "f must be a mapping of settings such as `models:`, got 'models { m }'"),
        ("name: m\nbase_path: /m", "name: there is no such setting. "),
        ("\x00", "f is no valid YAML: "),
    ],
)
def test_tells_the_error_of_the_form_that_was_meant(text: str, words: str) -> None:
    """A text that is wrong is told in the words of its own form."""
    with pytest.raises(ConfigError) as caught:
        read_any(text, "f")
    assert words in str(caught.value)


def test_marks_of_byte_order_do_no_harm() -> None:
    """A text from an editor that writes a byte order mark is read in either form."""
    assert read_any("\ufeffmodels: {m: /m}", "f") == parse({"models": {"m": "/m"}})
    assert read_edit("\ufeffmodel_config_list {}", "f", parse({"models": {"m": "/m"}})) == ServingConfig()


IN_FORCE = {
    "models": {"m": {"base_path": "/m", "num_gpus": 1}, "n": "/n"},
    "gateway": {"rest_port": 1, "grpc_port": 2},
    "load": {"retry_base_s": 50.0},
    "stores": {"s3": {"secret": "s"}},
}


@pytest.mark.parametrize(
    ("text", "changes"),
    [
        ("", {}),
        ("# nothing", {}),
        ("poll_interval_s: 5", {"poll_interval_s": 5}),
        ("gateway: {rest_port: 3}", {"gateway": {"rest_port": 3, "grpc_port": 2}}),
        ("gateway: {}", {}),
        ("models: {n: /x}", {"models": {"n": "/x"}}),
        ("models: {}", {"models": {}}),
        ("models: {m: /m}", {"models": {"m": "/m"}}),
        ("stores: {s3: {secret: '***', key: k}}", {"stores": {"s3": {"secret": "s", "key": "k"}}}),
        ("stores: {}", {"stores": {}}),
        ("model_config_list {}", {"models": {}}),
        (
            "model_config_list { config { name: 'm' base_path: '/x' model_type: 1 } }",
            {"models": {"m": {"base_path": "/x", "num_gpus": 1}}},
        ),
    ],
)
def test_edits(text: str, changes: dict[str, Any]) -> None:
    """What a text names takes the place of what is in force, models all together; what it leaves out stays."""
    assert read_edit(text, "f", parse(IN_FORCE)) == parse({**IN_FORCE, **changes})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gateway: {rest_port: 2}", "gateway in f has 1 problem:\n  (the whole): rest_port and grpc_port are both 2"),
        ("load: {retry_max_s: 9}", "load in f has 1 problem:\n  (the whole): retry_base_s (50.0) is above retry_max_s"),
        ("stores: {gs: {secret: '***'}}", "stores.gs.secret: *** stands for a secret"),
    ],
)
def test_edits_that_do_not_fit(text: str, message: str) -> None:
    """An edit that contradicts what stays in force is refused."""
    with pytest.raises(ConfigError) as caught:
        read_edit(text, "f", parse(IN_FORCE))
    assert str(caught.value).startswith(message)


def test_model_files() -> None:
    """A model_config_file lists models in either form, and is refused as a whole where it says more."""
    in_force = parse(IN_FORCE)
    assert read_model_file("models: {m: /m}", "f", in_force) == read_edit("models: {m: /m}", "f", in_force)
    assert read_model_file("model_config_list {}", "f", in_force).models == ()
    assert read_model_file("models: []", "f", in_force).models == ()
    for empty in ("", "# nothing yet\n", "{}"):
        with pytest.raises(ConfigError, match=r"^f is empty; to serve no model at all, write `models: \[\]`"):
            read_model_file(empty, "f", in_force)
    with pytest.raises(ConfigError, match=r"^f may list models and nothing else, but it has gateway, load; put"):
        read_model_file("models: {m: /m}\nload: {}\ngateway: {}", "f", in_force)


@settings(max_examples=30)
@given(configs(), configs())
def test_what_is_printed_can_be_applied(config: ServingConfig, in_force: ServingConfig) -> None:
    """A printed configuration, applied, is in force whatever was before; without its secrets, over itself."""
    assert read_edit(to_yaml(config), "f", config) == config
    assert read_edit(write_model_server_config(config), "f", config) == config
    if redact(config) == config and "***" not in to_yaml(config):
        assert read_edit(to_yaml(config), "f", in_force) == config
