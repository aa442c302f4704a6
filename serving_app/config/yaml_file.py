"""Configurations in YAML: read one, write back the one in force."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from serving_app.config.deployment import check_deployed
from serving_app.config.errors import ConfigError
from serving_app.config.parsing import parse
from serving_app.config.secrets import redact
from serving_app.config.serving import ServingConfig


class _StrictLoader(yaml.SafeLoader):
    """YAML's plain types only; a key written twice is an error, where YAML would drop the first in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                continue  # refused below
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    "while reading a mapping", node.start_mark, f"{key!r} is written twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> str:
        text: str = super().construct_scalar(node)
        if any("\ud800" <= letter <= "\udfff" for letter in text):
            raise yaml.constructor.ConstructorError(
                "while reading a text", node.start_mark, "half of a surrogate pair is no character", node.start_mark
            )
        return text


class _ExactDumper(yaml.SafeDumper):
    """Texts with breaks, controls and the like in double quotes, with escapes; YAML's own choice reads back as another
    text where Unicode's line breaks are concerned."""


def _write_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if text.isprintable() else '"')


_ExactDumper.add_representer(str, _write_text)


def load_yaml(path: str | Path) -> ServingConfig:
    """The configuration, to be deployed, in the file at `path`."""
    return check_deployed(parse_yaml(read_file(path), str(path)), str(path))


def read_file(path: str | Path) -> str:
    """The text of a configuration file on this machine. Raises ConfigError if it cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ConfigError(f"There is no configuration file {path}; check the path") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"The configuration file {path} cannot be read: {error}") from error


def parse_yaml(text: str, source: str = "The configuration") -> ServingConfig:
    """The configuration in a YAML text; an empty text is a configuration without models."""
    try:
        # The loader makes plain types only, as yaml.safe_load does.
        data = yaml.load(text, Loader=_StrictLoader)
    except yaml.MarkedYAMLError as error:
        raise ConfigError(f"{source} is no valid YAML: {_locate(error)}") from error
    except (yaml.YAMLError, ValueError) as error:  # the latter from dates and numbers that cannot be
        raise ConfigError(f"{source} is no valid YAML: {error}") from error
    except RecursionError as error:
        raise ConfigError(f"{source} is nested too deeply to be a configuration") from error
    return parse({} if data is None else data, source)


def read_mapping(text: str) -> dict[str, Any]:
    """A part of a configuration that is a mapping, such as a rule of traffic, as it stands in a text; not checked yet.

    ValueError if it is none.
    """
    try:
        mapping = yaml.load(text, Loader=_StrictLoader)
    except yaml.MarkedYAMLError as error:
        raise ValueError(f"{text!r} is no valid YAML: {_locate(error)}") from error
    except (yaml.YAMLError, ValueError, RecursionError):
        mapping = None
    if not isinstance(mapping, dict):
        example = "{attribute: x-team, equals: ads, version: 4}"
        raise ValueError(f"{text!r} is no mapping, such as {example}")
    return mapping


def _locate(error: yaml.MarkedYAMLError) -> str:
    """What is wrong and where, without the line itself, which may hold a credential and ends in logs."""
    parts = ((error.context, error.context_mark), (error.problem, error.problem_mark), (error.note, None))
    return "; ".join(
        text + (f" (line {mark.line + 1}, column {mark.column + 1})" if mark else "") for text, mark in parts if text
    )


def to_yaml(config: ServingConfig, secrets: bool = False, *, defaults: bool = True) -> str:
    """The settings in force, as a text that reads back as the same configuration.

    Secrets are shown only if asked for. Without `defaults`, settings that have their default are left out.
    """
    config = config if secrets else redact(config)
    data = config.model_dump(mode="json", exclude_defaults=not defaults)
    # The dumper writes plain types only, as yaml.safe_dump does.
    return yaml.dump(data, Dumper=_ExactDumper, sort_keys=False, allow_unicode=True)
