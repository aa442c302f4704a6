"""The two forms in which models are written: our YAML and TensorFlow Serving's text form.

Which of the two a text is in shows by its first word. TensorFlow Serving's names at the top, `model_config_list` and
`custom_model_config`, are no settings of ours, and none of our settings is a name there. A text that begins otherwise
is in our form, unless it can only be a protobuf text with a mistake at its top: then its error is the one that helps.
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import Any

from serving_app.config.errors import ConfigError
from serving_app.config.model_server_config import read_model_server_config, to_models
from serving_app.config.parsing import revise
from serving_app.config.plan import replace_models
from serving_app.config.secrets import restore_secrets
from serving_app.config.serving import ServingConfig
from serving_app.config.settings import Settings
from serving_app.config.yaml_file import parse_yaml

_TFS_NAMES = ("model_config_list", "custom_model_config")
_FIRST_WORD = re.compile(r"(?:\s|#[^\n]*(?:\n|$))*(\w+)\s*(:?\s*[{<])?")


def read_any(text: str, source: str) -> Any:
    """The ServingConfig that a YAML text describes, or the ModelServerConfig message of a protobuf text.

    An empty text is an empty ServingConfig. Raises ConfigError with what is wrong in the form that was meant; `source`
    is how it calls the text, for example the name of its file.
    """
    text = text.removeprefix("\ufeff")
    return read_model_server_config(text, source) if is_proto_text(text) else parse_yaml(text, source)


def is_proto_text(text: str) -> bool:
    """Whether a text is in TensorFlow Serving's form, be it right or wrong."""
    match = _FIRST_WORD.match(text)
    if match is None:
        return False
    word, brace = match[1], match[2]
    if word in ServingConfig.model_fields:
        return False
    # `config {` opens a message, while `config: {` could also be a mapping in YAML.
    return bool(get_close_matches(word, _TFS_NAMES, cutoff=0.8)) or (brace is not None and ":" not in brace)


def read_edit(text: str, source: str, in_force: ServingConfig) -> ServingConfig:
    """The configuration that follows from a text, in either form, which is applied to the one in force.

    The models that the text lists take the place of all those in force. Other settings stay as they are where the text
    does not name them, and secrets that it shows as `***` keep their value.
    """
    given = read_any(text, source)
    if not isinstance(given, ServingConfig):
        return replace_models(in_force, to_models(given, in_force))
    return restore_secrets(_complete(given, source, in_force), in_force)


def read_model_file(text: str, source: str, in_force: ServingConfig) -> ServingConfig:
    """The configuration that follows from a `model_config_file` with this text, in either form.

    Such a file lists models and nothing else. One that says nothing of models is refused: it is being written, or lost
    its content.
    """
    given = read_any(text, source)
    if isinstance(given, ServingConfig) and not given.model_fields_set:
        raise ConfigError(f"{source} is empty; to serve no model at all, write `models: []`")
    if isinstance(given, ServingConfig) and (others := given.model_fields_set - {"models"}):
        raise ConfigError(
            f"{source} may list models and nothing else, but it has {', '.join(sorted(others))}; put settings of the "
            "whole where the application is deployed"
        )
    return read_edit(text, source, in_force)


def _complete(given: ServingConfig, source: str, in_force: ServingConfig) -> ServingConfig:
    """`given`, with what it leaves out as it is in force."""
    update = {}
    for name in given.model_fields_set:
        value, before = getattr(given, name), getattr(in_force, name)
        if isinstance(value, Settings):
            value = revise(
                before, f"{name} in {source}", **{inner: getattr(value, inner) for inner in value.model_fields_set}
            )
        update[name] = value
    return revise(in_force, source, **update)
