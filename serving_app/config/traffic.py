"""How a model's requests are shared among its versions, as it is written in a configuration.

    traffic:
      default:                            # requests that name neither a version nor a label
        weights: {3: 90, 4: 10}           # percentages
        sticky: x-user-id
      stable:                             # requests that name this label
        weights: {3: 100}
        mirror: {version: 4, share: 20}   # a fifth of them is copied to version 4, and its answers are compared
        audience:
          - {attribute: x-team, one_of: [search, ads], version: 4}
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator, Field, field_validator, model_validator

from serving_app.config.settings import Settings
from serving_app.config.version_policy import MAX_VERSION
from serving_app.core.pattern import LONGEST_TEXT, Pattern
from serving_app.core.traffic import INPUT, WHOLE, Mirror, Rule, Tolerance, Traffic

_NAME = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]+")


def _check_attribute(value: str) -> str:
    if value.startswith(INPUT):
        if value == INPUT:
            raise ValueError(f"{value!r} names no input; write {INPUT}NAME")
        return value
    if not _NAME.fullmatch(lowered := value.lower()):
        raise ValueError(
            f"{value!r} is no attribute of a request; write the name of a header (of gRPC: a key of the metadata), or "
            f"{INPUT}NAME for the first value of an input"
        )
    return lowered


Attribute = Annotated[str, AfterValidator(_check_attribute)]
Version = Annotated[int, Field(ge=0, le=MAX_VERSION)]


class AudienceRule(Settings):
    """Requests with a certain attribute get a certain version, whatever the weights are. One of `equals`, `one_of`
    and `matches` says what it has to be, one of `version` and `label` where they go."""

    attribute: Attribute = Field(
        description="The header (of gRPC: the key of the metadata) to look at, or `input:NAME` for the first value of "
        "that input."
    )
    equals: str | None = Field(default=None, description="The text that it has to be.")
    one_of: tuple[str, ...] | None = Field(
        default=None, min_length=1, description="Texts of which it has to be one."
    )
    matches: str | None = Field(
        default=None,
        description="A regular expression that has to match the whole of it, at most "
        f"{LONGEST_TEXT} characters; see [patterns](cli.md#patterns-and-values).",
    )
    version: Version | None = Field(default=None, description="The version that these requests get.")
    label: str | None = Field(default=None, min_length=1, description="The label whose version these requests get.")

    @field_validator("matches")
    @classmethod
    def _check_pattern(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                Pattern(value)
            except ValueError as error:
                raise ValueError(f"{value!r} is no regular expression: {error}") from error
        return value

    @model_validator(mode="after")
    def _check_choices(self) -> AudienceRule:
        for names, values in (
            ("equals, one_of and matches", (self.equals, self.one_of, self.matches)),
            ("version and label", (self.version, self.label)),
        ):
            if sum(value is not None for value in values) != 1:
                raise ValueError(f"a rule of an audience needs exactly one of {names}")
        return self


_USUAL = Tolerance()

_Difference = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class ToleranceConfig(Settings):
    """By how much an output of the version that gets copies may differ: by the sum of both."""

    absolute: _Difference = Field(default=_USUAL.absolute, description="By so much.")
    relative: _Difference = Field(
        default=_USUAL.relative, description="By such a part of the value that the client has got."
    )


class MirrorConfig(Settings):
    """Copies of requests, for a version whose answers nobody gets to see, but which are compared with the real ones."""

    version: Version = Field(description="The version that gets the copies.")
    share: float = Field(ge=0, le=WHOLE, description="The percentage of the target's requests that is copied.")
    tolerances: Mapping[Annotated[str, Field(min_length=1)], ToleranceConfig] = Field(
        default={},
        description="By output, how far its values may be from those that the client has got. For outputs that are not "
        "named, floating-point numbers have the defaults, and all else has to be equal.",
    )


class TrafficConfig(Settings):
    """How the requests that name one label, or only the model, are shared among versions."""

    weights: Mapping[Version, Annotated[float, Field(ge=0)]] = Field(
        min_length=1, description="Percentages by version, which add up to 100."
    )
    sticky: Attribute | None = Field(
        default=None,
        description="The header (of gRPC: the key of the metadata) whose value decides, so that a user stays on one "
        "version while weights grow, or `input:NAME` for the first value of that input. Requests without it are shared "
        "by chance, as all are if this is null.",
    )
    audience: tuple[AudienceRule, ...] = Field(
        default=(), description="Rules that come before the weights, of which the first that fits counts."
    )
    mirror: MirrorConfig | None = Field(
        default=None,
        description="A share of the requests is copied to one more version, and the answers are compared "
        "(see [rollouts](rollouts.md#mirror)).",
    )

    @field_validator("weights")
    @classmethod
    def _check_sum(cls, value: Mapping[int, float]) -> Mapping[int, float]:
        total = math.fsum(value.values())
        if not math.isclose(total, WHOLE, abs_tol=1e-6):
            raise ValueError(f"the weights are percentages and add up to {total:.12g}; make them add up to {WHOLE}")
        return value


def to_traffic(model: str, target: str, config: TrafficConfig, labels: Mapping[str, int]) -> Traffic:
    """What the core needs to know of it. Labels that it names are among `labels`."""
    return Traffic(
        weights=dict(config.weights),
        sticky=config.sticky,
        rules=tuple(_to_rule(rule, labels) for rule in config.audience),
        seed=f"{model}\0{target}",
        mirror=None if config.mirror is None else _to_mirror(config.mirror),
    )


def _to_mirror(config: MirrorConfig) -> Mirror:
    tolerances = {output: Tolerance(each.absolute, each.relative) for output, each in config.tolerances.items()}
    return Mirror(config.version, config.share, tolerances)


def _to_rule(rule: AudienceRule, labels: Mapping[str, int]) -> Rule:
    values = rule.one_of if rule.one_of is not None else () if rule.equals is None else (rule.equals,)
    version = labels[rule.label] if rule.label is not None else rule.version
    assert version is not None
    return Rule(rule.attribute, version, frozenset(values), rule.matches)
