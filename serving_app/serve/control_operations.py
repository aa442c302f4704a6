"""The operations that control endpoints offer: one table, from which they are found, answered and documented.

They are the operations of `serving-app` and of `connect()`, under the same names, and answer with the documents that
`--json` prints.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from serving_app.client.control import Control
from serving_app.client.rollouts import Rollouts
from serving_app.config.control import LabelBody, Nothing, RolloutBody, ValueBody
from serving_app.config.settings import Settings
from serving_app.config.traffic import TrafficConfig
from serving_app.core import shapes
from serving_app.core.documents import (
    app_document,
    labels_document,
    model_document,
    rollout_document,
    rollout_history,
    targets_document,
)
from serving_app.core.health import find_model
from serving_app.core.rollout import Rollout
from serving_app.core.rollout_orders import ORDERS
from serving_app.core.traffic import DEFAULT_TARGET
from serving_app.core.views import AppView, ModelView

MOST_DIGITS = 18


@dataclass(frozen=True, slots=True)
class Parameter:
    """A part of a path, or of a query, that says which one is meant."""

    kind: type
    meaning: str
    example: Any


PARAMETERS: Mapping[str, Parameter] = {
    "model": Parameter(str, "The model's name.", "digits"),
    "label": Parameter(str, "The label's name.", "stable"),
    "target": Parameter(
        str, f"A label, or `{DEFAULT_TARGET}` for the requests that name neither a version nor a label.", DEFAULT_TARGET
    ),
    "rollout": Parameter(int, "The rollout's number.", 1),
}


@dataclass(frozen=True, slots=True)
class Asked:
    """What one request says: its parameters, and its body as it was checked and as it was written."""

    parameters: Mapping[str, Any]
    body: Any
    written: Mapping[str, Any]

    @property
    def model(self) -> str:
        """The model that is meant."""
        name: str = self.parameters["model"]
        return name

    @property
    def rollout(self) -> int:
        """The rollout that is meant."""
        number: int = self.parameters["rollout"]
        return number


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing that can be asked for. `ask` asks the controller, `show` makes the document of its answer, which may
    take long. The path is below `/control/v1`; names in braces stand for parameters."""

    name: str
    method: str
    path: str
    summary: str
    ask: Callable[[Control, Asked], Awaitable[Any]]
    show: Callable[[Any], Any]
    answer: Any
    """The type of the document."""
    body: type[Settings] = Nothing
    example: Mapping[str, Any] = field(default_factory=dict)
    """A body."""
    query: tuple[str, ...] = ()

    @property
    def is_order(self) -> bool:
        """Whether it changes something."""
        return self.method != "GET"

    @property
    def segments(self) -> list[str]:
        """The path between its slashes."""
        return self.path[1:].split("/")


# --- what they ask ----------------------------------------------------------------------------------------------------


async def _view(control: Control, asked: Asked) -> AppView:
    return await control.view()


async def _model(control: Control, asked: Asked) -> ModelView:
    return find_model(await control.view(), asked.model)


async def _put_label(control: Control, asked: Asked) -> ModelView:
    await control.set_label(asked.model, asked.parameters["label"], asked.body.version)
    return await _model(control, asked)


async def _delete_label(control: Control, asked: Asked) -> ModelView:
    await control.delete_label(asked.model, asked.parameters["label"])
    return await _model(control, asked)


async def _put_traffic(control: Control, asked: Asked) -> ModelView:
    await control.set_traffic(asked.model, asked.parameters["target"], asked.written)
    return await _model(control, asked)


async def _delete_traffic(control: Control, asked: Asked) -> ModelView:
    await control.delete_traffic(asked.model, asked.parameters["target"])
    return await _model(control, asked)


async def _rollouts(control: Control, asked: Asked) -> tuple[Rollout, ...]:
    return await control.rollouts(asked.parameters.get("model"))


async def _start(control: Control, asked: Asked) -> Rollout:
    body: RolloutBody = asked.body
    return await control.start_rollout(body.model, body.to, body.target, body.strategy)


async def _rollout(control: Control, asked: Asked) -> Rollout:
    return await control.rollout(asked.rollout)


async def _move(action: str, control: Control, asked: Asked) -> Rollout:
    return await control.move_rollout(asked.rollout, action)


async def _report_value(control: Control, asked: Asked) -> Rollout:
    body: ValueBody = asked.body
    await control.report_rollout_value(asked.rollout, body.name, body.value, body.version)
    return await control.rollout(asked.rollout)


# --- what they answer -------------------------------------------------------------------------------------------------


def _models_document(view: AppView) -> shapes.ModelsDocument:
    return {"models": [model_document(model) for _, model in sorted(view.models.items())]}


def _rollout_documents(rollouts: tuple[Rollout, ...]) -> list[shapes.RolloutDocument]:
    return [rollout_document(each) for each in rollouts]


# --- the table --------------------------------------------------------------------------------------------------------


_LABEL = "/models/{model}/labels/{label}"
_TARGET = "/models/{model}/traffic/{target}"
_ROLLOUT = "/rollouts/{rollout}"
_HALF = {"weights": {"1": 50, "2": 50}, "sticky": "x-user-id"}
_CAREFUL = {
    "model": "digits", "to": 4, "target": "stable",
    "strategy": {"steps": [10, {"pause_s": 600}], "gates": [{"measure": "error_rate", "max_increase": 0.01}]},
}

OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "status", "GET", "/status", "All that is served, and what is wrong.", _view, app_document, shapes.AppDocument
    ),
    Operation("models", "GET", "/models", "All models.", _view, _models_document, shapes.ModelsDocument),
    Operation(
        "model", "GET", "/models/{model}", "A model with its versions.", _model, model_document, shapes.ModelDocument
    ),
    Operation(
        "labels", "GET", "/models/{model}/labels", "The labels of a model.", _model, labels_document,
        shapes.LabelsDocument,
    ),
    Operation(
        "set_label", "PUT", _LABEL, "Let a label name a version, which has to be ready.", _put_label, labels_document,
        shapes.LabelsDocument, LabelBody, {"version": 4},
    ),
    Operation(
        "delete_label", "DELETE", _LABEL, "Take a label away.", _delete_label, labels_document, shapes.LabelsDocument
    ),
    Operation(
        "traffic", "GET", "/models/{model}/traffic", "How a model's requests are shared among its versions.", _model,
        targets_document, shapes.TargetsDocument,
    ),
    Operation(
        "set_traffic", "PUT", _TARGET, "Share the requests for a target among versions, in place of what was set.",
        _put_traffic, targets_document, shapes.TargetsDocument, TrafficConfig, _HALF,
    ),
    Operation(
        "delete_traffic", "DELETE", _TARGET, "Share the requests for a target no more.", _delete_traffic,
        targets_document, shapes.TargetsDocument,
    ),
    Operation(
        "rollouts", "GET", "/rollouts", "The rollouts that go on and the last that did, of one model or of all.",
        _rollouts, _rollout_documents, list[shapes.RolloutDocument], query=("model",),
    ),
    Operation(
        "start", "POST", "/rollouts", "Begin to move requests to a version. It goes on by itself from then on.", _start,
        rollout_document, shapes.RolloutDocument, RolloutBody, _CAREFUL,
    ),
    Operation("rollout", "GET", _ROLLOUT, "How a rollout stands.", _rollout, rollout_document, shapes.RolloutDocument),
    Operation(
        "history", "GET", f"{_ROLLOUT}/history", "All that a rollout did, and the evidence for it.", _rollout,
        rollout_history, list[shapes.TransitionDocument],
    ),
    *(
        Operation(
            action, "POST", f"{_ROLLOUT}/{action}", str(inspect.getdoc(getattr(Rollouts, action))),
            partial(_move, action), rollout_document, shapes.RolloutDocument,
        )
        for action in ORDERS
    ),
    Operation(
        "report_value", "POST", f"{_ROLLOUT}/report_value", str(inspect.getdoc(Rollouts.report_value)), _report_value,
        rollout_document, shapes.RolloutDocument, ValueBody, {"name": "clicks", "value": 0.12},
    ),
)
"""Everything that can be asked for. None of them has a place that another's parameter could stand for."""
