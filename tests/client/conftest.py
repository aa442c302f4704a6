"""What connections are tested with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from serving_app.client import link, link_loop
from serving_app.client.control import Unreachable
from tests.client.small_app import App, Handle
from tests.stepping import PATIENCE_S, Actor


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Iterator[App]:
    """An app, and a process that is on the cluster on which it is."""
    app = App()

    async def find_controller(name: str) -> Any:
        if name != "default":
            raise Unreachable(f"no serving app named {name!r}")
        return Actor(app)

    async def open_handle(name: str) -> Any:
        return Handle(app, name)

    async def close_handle(name: str, handle: Any) -> None:
        pass

    monkeypatch.setattr("serving_app.client.connection.join_cluster", lambda address: None)
    monkeypatch.setattr("serving_app.client.link.cluster_of_process", lambda: "here")
    monkeypatch.setattr("serving_app.client.link.find_controller", find_controller)
    monkeypatch.setattr("serving_app.client.link._FIRST_PAUSE_S", 0.0)
    monkeypatch.setattr("serving_app.client.link._LINGER_S", 1e6)
    monkeypatch.setattr("serving_app.ray_private.open_handle", open_handle)
    monkeypatch.setattr("serving_app.ray_private.close_handle", close_handle)
    monkeypatch.setattr("serving_app.ray_private.node_id", lambda: "node")
    monkeypatch.setattr("serving_app.client.hops._TRIES", 1)
    yield app
    link_loop.run(link._stop_all()).result(PATIENCE_S)
