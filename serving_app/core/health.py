"""What a view means: which versions answer, and whether something is wrong."""

from __future__ import annotations

from serving_app.core.errors import NotFound
from serving_app.core.states import State
from serving_app.core.views import AppView, ModelView

_MOST_NAMED = 20


def is_healthy(model: ModelView) -> bool:
    """Whether some version answers. A model that left the configuration need not."""
    return bool(ready(model)) or not model.configured


def are_healthy(view: AppView) -> bool:
    """Whether every model answers, somebody listens, and nothing is to be looked at."""
    return bool(view.gateways) and not view.problems and all(map(is_healthy, view.models.values()))


def find_model(view: AppView, name: str) -> ModelView:
    """A model by name. Raises NotFound with the names that there are."""
    if name in view.models:
        return view.models[name]
    named = ", ".join(sorted(view.models)[:_MOST_NAMED])
    more = f" and {len(view.models) - _MOST_NAMED} more" if len(view.models) > _MOST_NAMED else ""
    known = f"the models are {named}{more}" if view.models else "it has no models"
    raise NotFound(f"the serving app {view.app!r} knows no model {name!r}; {known}")


def ready(model: ModelView) -> list[int]:
    """The versions that answer, newest first."""
    return [version.servable.version for version in model.versions if version.state is State.READY]


def labels_of(model: ModelView, version: int) -> list[str]:
    """The labels that name this version."""
    return sorted(label for label, named in model.labels.items() if named == version)


def is_active(model: ModelView, label: str) -> bool:
    """Whether the version that a label names answers."""
    return model.labels[label] in ready(model)
