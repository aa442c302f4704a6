"""The page of all settings, made from the models themselves: `python -m serving_app.config.document [PAGE]`."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import TypeAdapter
from pydantic.fields import FieldInfo

from serving_app.config.batching import BatchingConfig
from serving_app.config.gateway import GatewayConfig
from serving_app.config.model import AutoscalingConfig, ModelConfig, SessionConfig, TfliteConfig, WarmupConfig
from serving_app.config.rollouts import GateConfig, StepConfig, StrategyConfig
from serving_app.config.serving import LoadConfig, ServingConfig
from serving_app.config.settings import Form, Settings
from serving_app.config.short_arguments import SHORT_ARGUMENTS
from serving_app.config.traffic import AudienceRule, MirrorConfig, ToleranceConfig, TrafficConfig

PAGE = "docs/configuration.md"

_INTRODUCTION = """\
# Configuration

<!-- This page is made by `python -m serving_app.config.document`; change the models in serving_app/config instead. -->

A configuration is one mapping, in YAML for `serving-app up CONFIG.yaml`, or as the `args` of the application in a Serve
config file. Names that do not exist are refused, and every problem is reported at once with its place.

```yaml
models:
  half_plus_two: /models/half_plus_two          # a name and a base path are enough
  digits:
    base_path: s3://bucket/digits
    version_policy: {latest: 2}
    labels: {stable: 3}
    autoscaling: {min_replicas: 1, max_replicas: 4}
    memory: 2GiB
gateway:
  rest_port: 8501
```

`models` may also be a list of models with their `name`.

## Version policy

| written as | serves |
|---|---|
| `latest` | the newest version found |
| `{latest: 3}` | the three newest |
| `all` | every version found |
| `{specific: [2, 5]}` | these, as far as they are found |

## Traffic

Requests that name a label, or neither a version nor a label (`default`), can be shared among versions:

```yaml
models:
  half_plus_two:
    base_path: /models/half_plus_two
    traffic:
      default:
        weights: {1: 90, 2: 10}
        sticky: x-user-id
        audience:
          - {attribute: x-team, one_of: [ads, search], version: 2}
      stable:
        weights: {1: 100}
        mirror: {version: 2, share: 20, tolerances: {y: {relative: 0.01}}}
    labels: {stable: 1}
```

Requests that name a version by its number are not concerned. Where a version is not ready, the others share its
requests as their weights say; where none is, it is as if the requests were not shared.
[`serving-app traffic`](cli.md#serving-app-traffic) shows and changes this while the models are served.

## The short form

For one model, the arguments of `serve run` are enough:

    serve run serving_app:app model_name=half_plus_two model_base_path=/models/half_plus_two rest_port=8601

Besides the names below, every setting of a model other than `name` and `base_path` may be given, and applies to the one
model (lists and mappings in YAML: `labels='{stable: 1}'`), and so may every setting of the whole.

"""

_SECTIONS: Mapping[str, type[Settings]] = {
    "The whole": ServingConfig,
    "A model": ModelConfig,
    "Traffic": TrafficConfig,
    "Audience": AudienceRule,
    "Mirror": MirrorConfig,
    "Tolerance": ToleranceConfig,
    "Strategy": StrategyConfig,
    "Step": StepConfig,
    "Gate": GateConfig,
    "Autoscaling": AutoscalingConfig,
    "Session": SessionConfig,
    "TFLite": TfliteConfig,
    "Batching": BatchingConfig,
    "Warm-up": WarmupConfig,
    "Gateway": GatewayConfig,
    "Loading": LoadConfig,
}

_GROUPS = {
    "": "The whole",
    "gateway": "Gateway",
    "load": "Loading",
    "model": "A model",
    "model.session": "Session",
    "model.tflite": "TFLite",
    "model.warmup": "Warm-up",
}


def document() -> str:
    """The text of the page."""
    return _INTRODUCTION + "\n".join([*_short_arguments(), "", *_sections()])


def _short_arguments() -> Iterator[str]:
    yield from ("| argument | sets |", "|---|---|")
    for name, argument in SHORT_ARGUMENTS.items():
        note = f" ({argument.note})" if argument.note else ""
        places = [setting.rpartition(".") for setting in argument.settings]
        names = " and ".join(f"`{setting}`" for _, _, setting in places)
        yield f"| `{name}` | {names} of {_link(_GROUPS[places[0][0]])}{note} |"


def _sections() -> Iterator[str]:
    for title, group in _SECTIONS.items():
        yield from (f"## {title}", "", inspect.cleandoc(str(group.__doc__)), "")
        yield from ("| setting | type | default | meaning |", "|---|---|---|---|")
        for name, field in group.model_fields.items():
            yield f"| `{name}` | {_type_text(_annotation(field))} | {_default_text(field)} | {field.description} |"
        yield ""


def _link(title: str) -> str:
    return f"[{title}](#{title.lower().replace(' ', '-')})"


def _annotation(field: FieldInfo) -> Any:
    """A field's annotation with the metadata that pydantic took off it."""
    return Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation


_PLAIN = {int: "integer", float: "number", bool: "true or false", str: "text", NoneType: "null", Any: "anything"}


def _type_text(annotation: Any) -> str:
    """How a user would call a type."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation in _PLAIN:
        return _PLAIN[annotation]
    if origin is Annotated:
        forms = [item.text for item in arguments[1:] if isinstance(item, Form)]
        return forms[0] if forms else _type_text(arguments[0])
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if origin in (Union, UnionType):
        return " or ".join(_type_text(argument) for argument in arguments)
    if origin is tuple:
        return f"list of {_type_text(arguments[0])}s"
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return _link(next(title for title, group in _SECTIONS.items() if group is annotation))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return f"mapping from {_type_text(arguments[0])} to {_type_text(arguments[1])}"
    raise TypeError(f"{annotation} has no text here; add one to _type_text, or a Form to the annotation")


def _default_text(field: FieldInfo) -> str:
    if field.is_required():
        return "none: must be given"
    if isinstance(field.default, Settings):
        return "its defaults"
    value = TypeAdapter(_annotation(field)).dump_python(field.default, mode="json")
    return f"`{json.dumps(value)}`"


if __name__ == "__main__":
    page = Path(sys.argv[1] if len(sys.argv) > 1 else PAGE)
    page.write_text(document(), encoding="utf-8")
    print(f"wrote {page}")
