"""The shapes of the documents that programs get: what `--json` prints, and what control endpoints answer.

The keys are a promise: some may come, none goes. A key's type may carry a sentence about it and a tuple of the texts
that it may be; from both the OpenAPI document is made, and docs/cli.md lists the same keys.
"""

from __future__ import annotations

from typing import Annotated, Any, TypedDict

from serving_app.core.errors import Code
from serving_app.core.gates import Outcome
from serving_app.core.placement import Placement
from serving_app.core.rollout import Phase
from serving_app.core.states import PublicState, State

Moment = Annotated[str, "A time: ISO 8601 in UTC."]


class FailureDocument(TypedDict):
    """Why something did not work."""

    code: Annotated[str, tuple(code.name for code in Code), "The canonical status code."]
    message: str


class LabelDocument(TypedDict):
    """A label of a model."""

    label: str
    version: Annotated[int, "The version that it names."]
    active: Annotated[bool, "Whether that version answers."]


class WeightDocument(TypedDict):
    """The share of a version."""

    version: int
    weight: Annotated[float, "Percent of the requests."]


class RuleDocument(TypedDict):
    """A rule of an audience: requests with such an attribute get this version."""

    attribute: Annotated[str, "A header's name, or `input:NAME`."]
    one_of: Annotated[list[str] | None, "The texts of which the attribute has to be one."]
    matches: Annotated[str | None, "Or the regular expression that it has to match."]
    version: int


class ToleranceDocument(TypedDict):
    """By how much an output may differ: by the sum of both."""

    absolute: float
    relative: Annotated[float, "A part of the value that the client has got."]


class MirrorDocument(TypedDict):
    """Copies of requests."""

    version: Annotated[int, "The version that gets them."]
    share: Annotated[float, "Percent of the requests."]
    tolerances: Annotated[dict[str, ToleranceDocument], "By output."]


class TrafficDocument(TypedDict):
    """How the requests for one target are shared."""

    target: Annotated[str, "A label, or `default` for requests that name neither a version nor a label."]
    sticky: Annotated[str | None, "The attribute by whose value a user stays on one version."]
    weights: list[WeightDocument]
    audience: Annotated[list[RuleDocument], "Rules that come before the weights."]
    mirror: MirrorDocument | None


class VersionDocument(TypedDict):
    """A version of a model."""

    version: int
    state: Annotated[str, tuple(state.name for state in PublicState), "TensorFlow Serving's state."]
    phase: Annotated[str, tuple(state.value for state in State), "Where it is, more exactly."]
    since: Annotated[str, "When it came into this phase."]
    aspired: Annotated[bool | None, "Whether it should be served; null before the first listing."]
    labels: Annotated[list[str], "The labels that name it."]
    path: Annotated[str | None, "Where its files are."]
    size: Annotated[int | None, "The bytes of its files."]
    app: Annotated[str | None, "The Serve application that holds it."]
    placement: Annotated[str | None, (*(each.value for each in Placement), None), "Null while it is not loaded."]
    batching: Annotated[dict[str, Any] | None, "By which limits its requests are joined; null while they are not."]
    progress: Annotated[str | None, "How far its load is, in words."]
    failures: Annotated[int, "How many attempts to load it have failed in a row."]
    error: Annotated[FailureDocument | None, "Why the last one did."]
    retry_at: Annotated[str | None, "When it is tried next."]


class WaitingDocument(TypedDict):
    """A version that is still being written."""

    version: int
    lacks: str


class ModelDocument(TypedDict):
    """A model with its versions."""

    model: Annotated[str, "Its name."]
    healthy: Annotated[bool, "Whether some version answers, or the model left the configuration."]
    configured: Annotated[bool, "Whether it is in the configuration in force."]
    aspired: Annotated[list[int] | None, "The versions that should be served; null before the first listing."]
    ready: Annotated[list[int], "The versions that answer, newest first."]
    waiting: list[WaitingDocument]
    labels: list[LabelDocument]
    traffic: list[TrafficDocument]
    listing_failure: Annotated[FailureDocument | None, "Why the base path could not be listed, if so."]
    warnings: Annotated[list[str], "Sentences."]
    versions: Annotated[list[VersionDocument], "Newest first."]


class GatewayDocument(TypedDict):
    """A gateway."""

    name: str
    addresses: Annotated[dict[str, str], "Where it listens, by protocol."]


class AppDocument(TypedDict):
    """A serving app."""

    app: Annotated[str, "Its name."]
    healthy: Annotated[bool, "Whether every model answers, and nothing is to be looked at."]
    revision: Annotated[int, "The number of the route table."]
    gateways: list[GatewayDocument]
    models: list[ModelDocument]
    problems: Annotated[list[str], "Sentences."]


class ModelsDocument(TypedDict):
    """All models."""

    models: list[ModelDocument]


class LabelsDocument(TypedDict):
    """The labels of a model."""

    model: str
    labels: list[LabelDocument]


class TargetsDocument(TypedDict):
    """How a model's requests are shared, by target."""

    model: str
    traffic: list[TrafficDocument]


class VerdictDocument(TypedDict):
    """What one look at a gate told."""

    gate: str
    outcome: Annotated[str, tuple(each.value for each in Outcome)]
    value: Annotated[float | None, "What was measured of the new version."]
    limit: float | None
    samples: Annotated[float | None, "Of how many requests."]
    why: Annotated[str, "Why it is inconclusive."]


class GateDocument(TypedDict):
    """How a gate has fared."""

    gate: str
    failures: int
    last: Annotated[VerdictDocument | None, "The newest verdict since weights or copies changed."]


class TransitionDocument(TypedDict):
    """Something that a rollout did, and what led to it."""

    at: Moment
    what: str
    phase: Annotated[str, tuple(phase.value for phase in Phase)]
    weight: Annotated[float, "Percent of the requests that the new version got then."]
    evidence: list[VerdictDocument]


RolloutDocument = TypedDict(
    "RolloutDocument",
    {
        "id": Annotated[int, "Its number."],
        "model": str,
        "target": Annotated[str, "The label whose requests it moves, or `default`."],
        "from": Annotated[int, "The version that got the requests."],
        "to": Annotated[int, "The version that is to get them."],
        "strategy": Annotated[str, "The name of its strategy."],
        "automatic": Annotated[bool, "Whether the model's setting `rollout` began it."],
        "phase": Annotated[str, tuple(phase.value for phase in Phase)],
        "reason": Annotated[str, "Why it stands there, in words."],
        "step": Annotated[int, "The number of its step, from 1 on."],
        "steps": Annotated[list[str], "All steps, in words."],
        "weight": Annotated[float, "Percent of the requests that the new version gets."],
        "mirror": Annotated[float, "Percent of the requests that are copied to it."],
        "begun": Moment,
        "since": Annotated[str, "When it came to where it stands."],
        "settled": Annotated[bool, "Whether it has left its target to others."],
        "gates": list[GateDocument],
        "history": Annotated[list[TransitionDocument], "All that it did."],
    },
)
RolloutDocument.__doc__ = "A rollout, with all that it did."


class HappeningDocument(TypedDict):
    """Something that happened."""

    at: Moment
    model: str
    version: int | None
    what: str
