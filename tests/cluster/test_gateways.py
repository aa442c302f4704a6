"""Gateways that are replaced under load, and ports that are taken."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from ray import serve

from serving_app.core.servable import ModelSpec
from serving_app.protocol.grpc_methods import PREDICT
from serving_app.protocol.predict_proto import decode_predict_response, encode_predict_request
from tests.cluster.asking import QUESTION, Ask, ask_everywhere, ask_rest, open_rest, steadily
from tests.cluster.serving import Serving, serving
from tests.cluster.waiting import PATIENCE_S, wait_for
from tests.serve.certificates import Authority, Certified, ssl_config
from tests.zoo import Zoo

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, zoo: Zoo) -> Path:
    """A base path that holds version 1 of half_plus_two."""
    path = tmp_path_factory.mktemp("gateways") / "half_plus_two"
    shutil.copytree(zoo.path("half_plus_two", 1), path / "1")
    return path


@pytest.fixture(scope="module")
def running(door_port: int, folder: Path, zoo: Zoo) -> Iterator[Serving]:
    """An app that serves half_plus_two, among others, for several tests."""
    with serving("gateways", door_port) as app:
        app.deploy({"half_plus_two": str(folder), "removed": zoo.base("half_plus_two")})
        app.wait_for_version("removed", 2)
        app.wait_for_version("half_plus_two", 1)
        yield app


def test_a_gateway_is_replaced(running: Serving, folder: Path, zoo: Zoo) -> None:
    """A changed configuration is applied by another gateway on the same ports, without a failed request: models that
    are new to it come, others go, and those that stay are left alone.
    """
    app = running
    first, kept = app.replicas(), app.replicas("half_plus_two", 1)
    with steadily(ask_everywhere(app)) as load:
        app.deploy({"half_plus_two": str(folder), "added": zoo.base("half_plus_two")})
        app.wait_for_version("added", 2)
        wait_for("another gateway", lambda: len(app.replicas()) == 1 and not app.replicas().keys() & first.keys())
        wait_for("the old gateway to say good-bye", lambda: len(app.view().gateways) == 1)
        wait_for("the removed model to be gone", lambda: f"{app.name}:removed@2" not in app.apps())
    load.assert_nothing_failed()
    assert app.replicas("half_plus_two", 1) == kept
    assert ask_rest(app, "added")() == 2
    assert open_rest(app).request("POST", "/v1/models/removed:predict", {"instances": [1.0]}) == (
        404, {"error": "Servable not found for request: Latest(removed)"}
    )


def test_a_port_of_another_app(running: Serving, app: Serving, folder: Path) -> None:
    """A port that somebody else has is refused by a message that names it and the setting; nobody is disturbed."""
    ask = ask_rest(running)
    app.rest_port = running.rest_port
    message = refused(app, folder)
    assert f"REST port 127.0.0.1:{app.rest_port} is in use by the serving app '{running.name}'" in message
    assert "gateway.rest_port" in message
    assert ask() == 1


def test_keys_and_a_socket(app: Serving, folder: Path, tmp_path: Path) -> None:
    """A file of keys that is wrong is refused by what is wrong in it; with the right one, gateways that share a port
    and a UNIX socket answer over TLS at both, and go on when they are replaced.
    """
    authority = Authority()
    server = authority.certify("server")
    keys, path = tmp_path / "keys", str(tmp_path / "socket")
    gateway = {"ssl_config_file": str(keys), "grpc_socket_path": path}
    keys.write_text(ssl_config(Certified(server.key, "")))
    message = refused(app, folder, gateway=gateway)
    assert f"gateway.ssl_config_file: {keys}: server_cert is missing" in message
    assert server.key.splitlines()[1] not in message
    keys.write_text(ssl_config(server))
    credentials = grpc.ssl_channel_credentials(authority.cert.encode())
    options = [("grpc.ssl_target_name_override", "localhost")]
    request = encode_predict_request(ModelSpec("half_plus_two"), "", {"x": np.array(QUESTION, np.float32)})

    def asker(client: grpc.Channel) -> Ask:
        predict = client.unary_unary(PREDICT)
        return lambda: decode_predict_response(predict(request, timeout=PATIENCE_S))[0]

    app.deploy({"half_plus_two": str(folder)}, gateways=2, gateway=gateway)
    app.wait_for_version("half_plus_two", 1)
    with (
        grpc.secure_channel(f"localhost:{app.grpc_port}", credentials, options) as at_port,
        grpc.secure_channel(f"unix:{path}", credentials, options) as at_socket,
        steadily({"port": asker(at_port), "socket": asker(at_socket)}) as load,
    ):
        first = app.replicas()
        app.deploy({"half_plus_two": str(folder)}, gateways=1, gateway=gateway)
        wait_for("other gateways", lambda: len(app.replicas()) == 1 and not app.replicas().keys() & first.keys())
    load.assert_nothing_failed()
    app.remove()
    assert [each.name for each in tmp_path.iterdir() if each.name.startswith("socket")] == []


def refused(app: Serving, base: Path, **settings: Any) -> str:
    """Why the app could not be deployed."""
    with pytest.raises(RuntimeError):
        app.deploy({"half_plus_two": str(base)}, **settings)
    deployments = serve.status().applications[app.name].deployments
    return "\n".join(deployment.message for deployment in deployments.values())
