"""Gateways that are replaced under load, and ports that are taken."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from ray import serve

from tests.cluster.asking import ask_everywhere, ask_rest, open_rest, steadily
from tests.cluster.serving import Serving, free_port
from tests.cluster.waiting import wait_for
from tests.zoo import Zoo

pytestmark = pytest.mark.cluster


@pytest.mark.parametrize(("before", "after"), [(1, 1), (2, 1)])
def test_gateways_are_replaced(app: Serving, base: Path, zoo: Zoo, before: int, after: int) -> None:
    """A changed configuration is applied by other gateways on the same ports, without a failed request: models that
    are new to it come, others go, and those that stay are left alone.
    """
    app.deploy({"half_plus_two": str(base), "removed": zoo.base("half_plus_two")}, gateways=before)
    app.wait_for_version("removed", 2)
    app.wait_for_version("half_plus_two", 1)
    first, kept = app.replicas(), app.replicas("half_plus_two", 1)
    with steadily(ask_everywhere(app)) as load:
        app.deploy({"half_plus_two": str(base), "added": zoo.base("half_plus_two")}, gateways=after)
        app.wait_for_version("added", 2)
        wait_for("other gateways", lambda: len(app.replicas()) == after and not app.replicas().keys() & first.keys())
        wait_for("the old gateways to say good-bye", lambda: len(app.view().gateways) == after)
        wait_for("the removed model to be gone", lambda: f"{app.name}:removed@2" not in app.apps())
    load.assert_nothing_failed()
    assert app.replicas("half_plus_two", 1) == kept
    assert ask_rest(app, "added")() == 2
    assert open_rest(app).request("POST", "/v1/models/removed:predict", {"instances": [1.0]}) == (
        404, {"error": "Servable not found for request: Latest(removed)"}
    )


def test_ports_of_others(new_serving: Callable[[str], Serving], base: Path) -> None:
    """A port that somebody else has is refused by a message that names it and the setting; nobody is disturbed."""
    first, second = new_serving("-first"), new_serving("-second")
    first.deploy({"half_plus_two": str(base)})
    first.wait_for_version("half_plus_two", 1)
    ask = ask_rest(first)
    second.rest_port = first.rest_port
    refusal = f"REST port 127.0.0.1:{second.rest_port} is in use by the serving app '{first.name}'"
    assert refusal in refused(second, base)
    second.rest_port = free_port()
    with socket.create_server(("127.0.0.1", second.grpc_port)):
        refusal = f"gRPC port 127.0.0.1:{second.grpc_port} is in use by another program"
        message = refused(second, base)
        assert refusal in message
        assert "gateway.grpc_port" in message
    assert ask() == 1


def refused(app: Serving, base: Path) -> str:
    """Why the app could not be deployed."""
    with pytest.raises(RuntimeError):
        app.deploy({"half_plus_two": str(base)})
    deployments = serve.status().applications[app.name].deployments
    return "\n".join(deployment.message for deployment in deployments.values())
