"""How new versions are rolled out, as it is written in a configuration.

    rollout_strategies:
      careful:
        steps:
          - mirror: 20                     # percent of the requests are copied to the new version
          - analysis_s: 120
            gates: [{measure: disagreement, max: 0.01}]
          - mirror: 0
          - weight: 10                     # percent of the requests go to the new version
          - pause_s: 300
          - weight: 50
          - pause_s: until_told
        gates:                             # watched all along
          - {measure: error_rate, max_increase: 0.01}
          - {measure: latency, quantile: 0.99, max_ratio: 1.5}
    models:
      digits: {base_path: /models/digits, rollout: careful}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, GetJsonSchemaHandler, TypeAdapter, ValidationError, model_validator

from serving_app.config.errors import ConfigError, describe
from serving_app.config.settings import Form, Settings
from serving_app.config.traffic import ToleranceConfig
from serving_app.core.errors import DataLoss
from serving_app.core.rollout import Rollout
from serving_app.core.strategy import (
    Analysis,
    Bound,
    Gate,
    Measure,
    Pause,
    SetMirror,
    SetWeight,
    Step,
    Strategy,
    find_mistakes,
)
from serving_app.core.traffic import WHOLE

UNTIL_TOLD = "until_told"

_Percentage = Annotated[float, Field(ge=0, le=WHOLE)]
_Measure = Annotated[
    Measure, Form("`error_rate`, `latency`, `disagreement`, `top1_disagreement`, `max_difference`, `drift` or `metric`")
]
_BOUNDS = tuple(bound.value for bound in Bound)
_SHARES = (Measure.ERROR_RATE, Measure.DISAGREEMENT, Measure.TOP1_DISAGREEMENT)


class GateConfig(Settings):
    """A condition that a new version has to meet. Exactly one of the limits is to be given."""

    measure: _Measure = Field(
        description="What is looked at: the error rate (a part of 1), a quantile of the latency (in milliseconds), the "
        "part of copied requests that were answered otherwise, or of rows with another class at the top, the largest "
        "difference of an output, the drift of scores (a population stability index), or a `metric` of your own."
    )
    name: str | None = Field(
        default=None, min_length=1, description="What the gate is called; null means its measure. A `metric` needs one."
    )
    max: float | None = Field(default=None, description="The value may not be above this.")
    min: float | None = Field(default=None, description="The value may not be below this; for a `metric` only.")
    max_ratio: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="The value may not be above so many times the old version's of the same time."
    )
    min_ratio: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="The value may not be below so many times the old version's; for a `metric` only."
    )
    max_increase: Annotated[float, Field(ge=0)] | None = Field(
        default=None, description="The value may not be above the old version's by more than this."
    )
    min_samples: int = Field(
        default=30, ge=1, description="Requests (copies, rows) of each version below which the gate is inconclusive."
    )
    quantile: float = Field(default=0.99, gt=0, lt=1, description="The quantile, of a latency.")
    prometheus: str | None = Field(
        default=None, min_length=1,
        description="The address of the Prometheus server that knows a `metric`, such as http://prometheus:9090; null "
        "if it is told by `report_value`.",
    )
    query: str | None = Field(
        default=None, min_length=1,
        description="The query in PromQL, which has one value; `$model` and `$version` in it are replaced.",
    )

    @model_validator(mode="after")
    def _check(self) -> GateConfig:
        given = [bound for bound in Bound if getattr(self, bound.value) is not None]
        if len(given) != 1:
            raise ValueError(f"a gate needs exactly one of {', '.join(_BOUNDS)}")
        is_metric = self.measure is Measure.METRIC
        if not is_metric and given[0] in (Bound.MIN, Bound.MIN_RATIO):
            raise ValueError(f"{self.measure.value} is the better the lower it is; give it a max, not a min")
        if given[0] not in (Bound.MAX, Bound.MIN) and self.measure in _ALONE:
            raise ValueError(
                f"{self.measure.value} compares the two versions already; give it a max, and not {given[0].value}"
            )
        if self.measure in _SHARES and self.max is not None and not 0 <= self.max < 1:
            raise ValueError(f"{self.measure.value} is a part of 1, so its max must be at least 0 and below 1")
        if is_metric and self.name is None:
            raise ValueError("a metric needs a name")
        if (self.prometheus is None) != (self.query is None) or (self.query is not None and not is_metric):
            raise ValueError("prometheus and query belong together, and to a metric")
        if self.prometheus is not None and not self.prometheus.startswith(("http://", "https://")):
            raise ValueError(f"{self.prometheus!r} is no address of Prometheus; write http://HOST:9090")
        return self


_ALONE = (Measure.DISAGREEMENT, Measure.TOP1_DISAGREEMENT, Measure.MAX_DIFFERENCE, Measure.DRIFT)


class StepConfig(Settings):
    """One step of a rollout: exactly one of `weight`, `mirror`, `pause_s` and `analysis_s`."""

    weight: _Percentage | None = Field(
        default=None, description="From here on the new version gets so many percent of the requests."
    )
    mirror: _Percentage | None = Field(
        default=None, description="From here on it gets copies of so many percent; 0 ends that."
    )
    pause_s: Annotated[float, Field(ge=0)] | Literal["until_told"] | None = Field(
        default=None, description="Seconds to wait, or `until_told`."
    )
    analysis_s: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="Seconds to wait, at the end of which `gates` must have been passed."
    )
    gates: tuple[GateConfig, ...] | None = Field(
        default=None, min_length=1, description="The gates of an analysis, measured over the whole of it."
    )

    @model_validator(mode="after")
    def _check(self) -> StepConfig:
        kinds = [self.weight, self.mirror, self.pause_s, self.analysis_s]
        if sum(kind is not None for kind in kinds) != 1:
            raise ValueError("a step is exactly one of weight, mirror, pause_s and analysis_s")
        if (self.gates is None) != (self.analysis_s is None):
            raise ValueError("an analysis needs gates, and no other step has any")
        return self


def _list_steps(value: object) -> object:
    """Steps that are mere numbers are weights."""
    if not isinstance(value, list | tuple):
        return value
    return [{"weight": step} if isinstance(step, int | float) else step for step in value]


class _OrWeights:
    """Has the JSON schema of steps allow what `_list_steps` does."""

    @staticmethod
    def __get_pydantic_json_schema__(schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        steps = handler(schema)
        return {**steps, "items": {"anyOf": [steps["items"], {"type": "number"}]}}


_Steps = Annotated[
    tuple[StepConfig, ...],
    BeforeValidator(_list_steps),
    _OrWeights(),
    Form("list of [Step](#step)s, or of weights"),
]


class StrategyConfig(Settings):
    """How requests move from one version to another. After the last step the new version gets them all."""

    steps: _Steps = Field(
        min_length=1, description="What is done, one after the other. A number stands for a weight: [1, 10, 50]."
    )
    gates: tuple[GateConfig, ...] = Field(
        default=(),
        description="What is watched all along. A gate that fails ends the rollout; while one is not passed, no step "
        "gives the new version more requests.",
    )
    interval_s: float = Field(default=10.0, gt=0, description="Seconds between two looks at the gates.")
    window_s: float = Field(
        default=60.0, gt=0,
        description="Seconds that a look at `gates` goes back, never beyond the last change of a weight or a mirror. "
        "The later half of the time since that change is looked at, too, when it is longer.",
    )
    failure_limit: int = Field(
        default=0, ge=0, description="How often each gate may fail before the rollout does."
    )
    patience_s: float = Field(
        default=600.0, ge=0,
        description="Seconds that a step waits for gates of which nothing can be said, for want of requests; then the "
        "rollout pauses until a person decides.",
    )
    ready_timeout_s: float = Field(
        default=600.0, gt=0, description="Seconds that the new version may take to be ready."
    )
    keep_s: float = Field(
        default=300.0, ge=0,
        description="Seconds after the end for which the version that has no requests any more stays loaded; as long, "
        "a promotion can be undone at once.",
    )
    tolerances: Mapping[Annotated[str, Field(min_length=1)], ToleranceConfig] = Field(
        default={}, description="By output, how far values may differ before a copied request counts as disagreement."
    )

    @model_validator(mode="after")
    def _check(self) -> StrategyConfig:
        if mistakes := list(find_mistakes(to_strategy("", self))):
            raise ValueError("; ".join(mistakes))
        return self


def to_strategy(name: str, config: StrategyConfig) -> Strategy:
    """What the core needs to know of it."""
    return Strategy(
        name=name,
        steps=tuple(_to_step(step) for step in config.steps),
        gates=tuple(_to_gate(gate) for gate in config.gates),
        interval_s=config.interval_s,
        window_s=config.window_s,
        failure_limit=config.failure_limit,
        patience_s=config.patience_s,
        ready_timeout_s=config.ready_timeout_s,
        keep_s=config.keep_s,
        tolerances={output: each.model_dump() for output, each in config.tolerances.items()},
    )


def _to_step(config: StepConfig) -> Step:
    if config.weight is not None:
        return SetWeight(config.weight)
    if config.mirror is not None:
        return SetMirror(config.mirror)
    if config.analysis_s is not None:
        return Analysis(config.analysis_s, tuple(_to_gate(gate) for gate in config.gates or ()))
    return Pause(None if config.pause_s == UNTIL_TOLD or config.pause_s is None else float(config.pause_s))


def _to_gate(config: GateConfig) -> Gate:
    bound = next(bound for bound in Bound if getattr(config, bound.value) is not None)
    return Gate(
        name=config.name or config.measure.value,
        measure=config.measure,
        bound=bound,
        limit=getattr(config, bound.value),
        min_samples=config.min_samples,
        quantile=config.quantile,
        query=config.query,
        prometheus=config.prometheus,
    )


def read_strategy(name: str, written: Mapping[str, Any]) -> Strategy:
    """The strategy that a mapping describes. Raises ConfigError."""
    try:
        return to_strategy(name, StrategyConfig.model_validate(dict(written)))
    except ValidationError as error:
        raise ConfigError(describe(error, StrategyConfig, f"The strategy {name}", written)) from error


_ROLLOUTS = TypeAdapter(tuple[Rollout, ...])


def dump_rollouts(rollouts: tuple[Rollout, ...]) -> list[Any]:
    """The rollouts as plain data."""
    dumped: list[Any] = _ROLLOUTS.dump_python(rollouts, mode="json")
    return dumped


def load_rollouts(dumped: object) -> tuple[Rollout, ...]:
    """What `dump_rollouts` made. Raises DataLoss where it is of another release."""
    try:
        return _ROLLOUTS.validate_python(dumped)
    except ValidationError as error:
        raise DataLoss(f"its rollouts cannot be read: {error}") from error
