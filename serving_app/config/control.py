"""What may stand in the bodies of control requests, beside settings that have models of their own."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from pydantic import Field, ValidationError, WithJsonSchema
from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from serving_app.config.errors import ConfigError, describe
from serving_app.config.rollouts import StrategyConfig
from serving_app.config.settings import Settings
from serving_app.config.version_policy import MAX_VERSION
from serving_app.core.traffic import DEFAULT_TARGET

SCHEMAS = "#/components/schemas/"
"""Where an OpenAPI document has its schemas."""

_Name = Annotated[str, Field(min_length=1)]
_Version = Annotated[int, Field(strict=True, ge=0, le=MAX_VERSION)]
_Strategy = Annotated[
    _Name | Mapping[str, Any],
    WithJsonSchema({"anyOf": [{"type": "string"}, {"$ref": f"{SCHEMAS}{StrategyConfig.__name__}"}]}),
]


class Nothing(Settings):
    """There is nothing to say."""


class LabelBody(Settings):
    """What a label is to name."""

    version: _Version = Field(description="The version's number.")


class RolloutBody(Settings):
    """A rollout that is to begin."""

    model: _Name = Field(description="The model's name.")
    to: _Version = Field(description="The version that is to get the requests.")
    target: _Name = Field(
        default=DEFAULT_TARGET,
        description="The label whose requests are meant, or `default` for those that name neither a version nor a "
        "label.",
    )
    strategy: _Strategy = Field(
        description="The name of one of the configuration's `rollout_strategies`, or the settings of one."
    )


class ValueBody(Settings):
    """The value of a metric, now."""

    name: _Name = Field(description="The name of the gate that waits for it.")
    value: Annotated[float, Field(strict=True)] = Field(description="The value.")
    version: _Version | None = Field(default=None, description="The version that has it; null means the new one.")


def read_body(text: bytes, kind: type[Settings]) -> tuple[Any, dict[str, Any]]:
    """What a body says: checked, and as it was written. Raises ConfigError, which names each place that is wrong."""
    written = _parse(text)
    if not isinstance(written, dict):
        raise ConfigError(f"The body must be a JSON object, and it is {type(written).__name__}")
    try:
        return kind.model_validate(written), written
    except ValidationError as error:
        raise ConfigError(describe(error, kind, "The body", written)) from error


def _parse(text: bytes) -> Any:
    try:
        written = json.loads(text.decode(), parse_constant=_refuse_constant, object_pairs_hook=_refuse_twins)
        json.dumps(written, ensure_ascii=False).encode()  # halves of surrogate pairs could be escaped in it
    except UnicodeError as error:
        raise ConfigError(f"The body is no text in UTF-8: {error}") from error
    except RecursionError as error:
        raise ConfigError("The body is nested too deep") from error
    except ValueError as error:
        raise ConfigError(f"The body is no JSON: {error}") from error
    return written


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number there")


def _refuse_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twin = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise ValueError(f"{twin!r} stands twice in one object")
    return found


def body_schemas(kinds: Iterable[type[Settings]]) -> dict[str, Any]:
    """The JSON schemas of these bodies, and of all that may stand in them, by name."""
    wanted = [(kind, "validation") for kind in (*kinds, StrategyConfig)]
    _, document = models_json_schema(
        wanted, ref_template=SCHEMAS + "{model}", schema_generator=_Untitled,  # type: ignore[arg-type]  # a literal
    )
    schemas: dict[str, Any] = json.loads(_LINK.sub("", json.dumps(document["$defs"])))
    return schemas


class _Untitled(GenerateJsonSchema):
    """Without titles, which say no more than the names do."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


_LINK = re.compile(r" ?[;(] ?see \[[^\]]*\]\([^)]*\)\)?")
"""A link of a description to another page of ours."""
