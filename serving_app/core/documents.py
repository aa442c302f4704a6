"""What is known of models and rollouts, as documents for programs: plain data of the shapes in `core.shapes`."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime

from serving_app.core.gates import Verdict
from serving_app.core.health import are_healthy, is_active, is_healthy, labels_of, ready
from serving_app.core.history import Happening
from serving_app.core.rollout import Rollout
from serving_app.core.shapes import (
    AppDocument,
    FailureDocument,
    HappeningDocument,
    LabelDocument,
    LabelsDocument,
    MirrorDocument,
    ModelDocument,
    RolloutDocument,
    TargetsDocument,
    TrafficDocument,
    TransitionDocument,
    VerdictDocument,
    VersionDocument,
)
from serving_app.core.states import public_state
from serving_app.core.traffic import DEFAULT_TARGET, Mirror
from serving_app.core.views import AppView, Failure, ModelView, VersionView


def dump(document: object, *, in_one_line: bool = False) -> str:
    """The text of a document; in one line where documents follow one another."""
    return json.dumps(document, ensure_ascii=False, indent=None if in_one_line else 2)


def iso(at: float) -> str:
    """A point in time in ISO 8601, in UTC and with milliseconds."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def app_document(view: AppView) -> AppDocument:
    """A serving app."""
    return {
        "app": view.app,
        "healthy": are_healthy(view),
        "revision": view.revision,
        "gateways": [{"name": name, "addresses": dict(addresses)} for name, addresses in view.gateways.items()],
        "models": [model_document(model) for model in view.models.values()],
        "problems": list(view.problems),
    }


def model_document(model: ModelView) -> ModelDocument:
    """A model with its versions, newest first."""
    return {
        "model": model.name,
        "healthy": is_healthy(model),
        "configured": model.configured,
        "aspired": None if model.aspired is None else sorted(model.aspired, reverse=True),
        "ready": ready(model),
        "waiting": [
            {"version": version, "lacks": lacks} for version, lacks in sorted(model.waiting.items(), reverse=True)
        ],
        "labels": _labels(model),
        "traffic": _traffic(model),
        "listing_failure": _failure(model.listing_failure),
        "warnings": list(model.warnings),
        "versions": [version_document(model, version) for version in model.versions],
    }


def version_document(model: ModelView, version: VersionView) -> VersionDocument:
    """A version: `state` is TensorFlow Serving's, `phase` says more exactly where it is."""
    return {
        "version": version.servable.version,
        "state": public_state(version.state).name,
        "phase": version.state.value,
        "since": iso(version.since),
        "aspired": version.aspired,
        "labels": labels_of(model, version.servable.version),
        "path": version.path,
        "size": version.size,
        "app": version.app,
        "placement": None if version.placement is None else version.placement.value,
        "batching": None if version.batching is None else asdict(version.batching),
        "progress": version.progress,
        "failures": version.failures,
        "error": _failure(version.error),
        "retry_at": None if version.retry_at is None else iso(version.retry_at),
    }


def labels_document(model: ModelView) -> LabelsDocument:
    """The labels of a model, by name."""
    return {"model": model.name, "labels": _labels(model)}


def targets_document(model: ModelView) -> TargetsDocument:
    """How the requests for each target of a model are shared."""
    return {"model": model.name, "traffic": _traffic(model)}


def _labels(model: ModelView) -> list[LabelDocument]:
    return [
        {"label": label, "version": version, "active": is_active(model, label)}
        for label, version in sorted(model.labels.items())
    ]


def _traffic(model: ModelView) -> list[TrafficDocument]:
    return [
        {
            "target": target or DEFAULT_TARGET,
            "sticky": traffic.sticky,
            "weights": [{"version": version, "weight": weight} for version, weight in traffic.weights.items()],
            "audience": [
                {
                    "attribute": rule.attribute, "one_of": sorted(rule.values) or None, "matches": rule.pattern,
                    "version": rule.version,
                }
                for rule in traffic.rules
            ],
            "mirror": None if traffic.mirror is None else _mirror(traffic.mirror),
        }
        for target, traffic in sorted(model.traffic.items())
    ]


def _mirror(mirror: Mirror) -> MirrorDocument:
    return {
        "version": mirror.version,
        "share": mirror.share,
        "tolerances": {
            output: {"absolute": each.absolute, "relative": each.relative} for output, each in mirror.tolerances.items()
        },
    }


def rollout_document(rollout: Rollout) -> RolloutDocument:
    """A rollout, with all that it did."""
    return {
        "id": rollout.id,
        "model": rollout.model,
        "target": rollout.target,
        "from": rollout.from_version,
        "to": rollout.to_version,
        "strategy": rollout.strategy.name,
        "automatic": rollout.is_automatic,
        "phase": rollout.phase.value,
        "reason": rollout.reason,
        "step": rollout.step + 1,
        "steps": [str(step) for step in rollout.strategy.steps],
        "weight": rollout.weight,
        "mirror": rollout.mirror,
        "begun": iso(rollout.begun),
        "since": iso(rollout.since),
        "settled": rollout.settled,
        "gates": [
            {"gate": name, "failures": check.failures, "last": None if check.last is None else _verdict(check.last)}
            for name, check in rollout.checks.items()
        ],
        "history": rollout_history(rollout),
    }


def rollout_history(rollout: Rollout) -> list[TransitionDocument]:
    """All that a rollout did, with the evidence."""
    return [
        {
            "at": iso(each.at), "what": each.what, "phase": each.phase.value, "weight": each.weight,
            "evidence": [_verdict(verdict) for verdict in each.verdicts],
        }
        for each in rollout.transitions
    ]


def _verdict(verdict: Verdict) -> VerdictDocument:
    return {
        "gate": verdict.gate,
        "outcome": verdict.outcome.value,
        "value": verdict.value,
        "limit": verdict.limit,
        "samples": verdict.samples,
        "why": verdict.why,
    }


def happening_document(happening: Happening) -> HappeningDocument:
    """Something that happened."""
    return {
        "at": iso(happening.at), "model": happening.model, "version": happening.version, "what": happening.what
    }


def _failure(failure: Failure | None) -> FailureDocument | None:
    return None if failure is None else {"code": failure.code.name, "message": failure.message}
