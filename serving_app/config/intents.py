"""What the core's manager needs to know of a configuration."""

from __future__ import annotations

from serving_app.config.model import ModelConfig
from serving_app.config.serving import ServingConfig
from serving_app.config.traffic import to_traffic
from serving_app.core.events import ModelIntent
from serving_app.core.policies import AspiredVersionPolicy, AvailabilityPreserving, ResourcePreserving
from serving_app.core.resources import Demand
from serving_app.core.traffic import DEFAULT_TARGET, Traffic

_ASPIRED_POLICIES: dict[str, AspiredVersionPolicy] = {
    "availability_preserving": AvailabilityPreserving(),
    "resource_preserving": ResourcePreserving(),
}


def to_intents(config: ServingConfig) -> tuple[ModelIntent, ...]:
    """One intent per model, in the order of the configuration."""
    return tuple(_to_intent(model) for model in config.models)


def traffic_of(model: ModelConfig) -> dict[str, Traffic]:
    """How a model's requests are shared, by the label that they name, "" for none."""
    return {
        "" if target == DEFAULT_TARGET else target: to_traffic(model.name, target, traffic, model.labels)
        for target, traffic in model.traffic.items()
    }


def _to_demand(model: ModelConfig) -> Demand:
    memory = model.memory if isinstance(model.memory, int) else None
    if model.placement == "colocated":  # a part of the gateway, which has reserved its CPUs
        return Demand(memory=memory)
    return Demand(model.num_cpus, model.num_gpus, memory)


def _to_intent(model: ModelConfig) -> ModelIntent:
    return ModelIntent(
        name=model.name,
        version_policy=model.version_policy,
        aspired_policy=_ASPIRED_POLICIES[model.aspired_version_policy],
        labels=dict(model.labels),
        demand=_to_demand(model),
        memory_factor=model.memory_factor,
        traffic=traffic_of(model),
    )
