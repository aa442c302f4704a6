"""Names under which the parts of one serving app find one another on a Ray cluster."""

from __future__ import annotations

from urllib.parse import quote, unquote

from serving_app.core.servable import ServableId

NAMESPACE = "serving_app"
"""The Ray namespace of controller actors."""

GATEWAY_DEPLOYMENT = "Gateway"
SERVABLE_DEPLOYMENT = "Servable"

_SAFE = " ()[]{}+,;=!$'&*"


def controller_name(app: str) -> str:
    """The controller actor of a serving app."""
    return f"controller:{app}"


def servable_app(app: str, servable: ServableId) -> str:
    """The Serve application of one version: `default:half_plus_two@1`.

    Only the controller calls this; everyone else reads the name from the route table. Characters that mean something
    here, to Ray (`#`) or to file systems (`/`, as log files carry the name) are percent-encoded.
    """
    return f"{quote(app, safe=_SAFE)}:{quote(servable.name, safe=_SAFE)}@{servable.version}"


def parse_servable_app(app: str, name: str) -> ServableId | None:
    """The version behind an application's name, or None if it is not one of this serving app's."""
    prefix = f"{quote(app, safe=_SAFE)}:"
    model, at, version = name.removeprefix(prefix).rpartition("@")
    # Anyone may give an application a name that only looks like ours: a number in other digits, or with a zero before.
    if not name.startswith(prefix) or not at or not (version.isascii() and version.isdigit() and len(version) < 20):
        return None
    servable = ServableId(unquote(model), int(version))
    return servable if servable_app(app, servable) == name else None
