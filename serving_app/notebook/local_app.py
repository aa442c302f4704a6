"""A serving app that belongs to a notebook: started in one cell, stopped in another, or when the kernel ends.

It is what `serving-app up` starts, on ports of its own: on the Ray cluster that is there, or on one that is started on
this machine and ends with the last app that needs it.
"""

from __future__ import annotations

import atexit
import logging
import os
import random
import socket
import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from serving_app.cli.cluster import join_or_start_ray, leave_ray, shut_empty_serve_down, start_serve
from serving_app.cli.deployment import deploy, refuse_to_replace, remove, wait_until_running
from serving_app.cli.progress import is_settled, obstacles
from serving_app.client.connection import Connection, connect
from serving_app.client.control import Unreachable, join_cluster
from serving_app.config import ServingConfig, parse
from serving_app.core.errors import FailedPrecondition, NotFound
from serving_app.core.states import State
from serving_app.core.views import AppView, ModelView

_PORTS = range(20_000, 32_768)
"""Below those that the system gives to connections, any of which may come in the moment before the app listens."""

_taken: set[int] = set()
"""Ports that apps of this process have got: they may not listen there yet."""

_LOOK_S = 0.1

_running: dict[str, LocalApp] = {}
"""The apps that this process has started, by name."""


class LocalApp:
    """A serving app of this process. `rest` and `grpc` are the addresses of its gateway, host and port.

    `stop` ends it, and so does the end of a `with` block or of the process.
    """

    def __init__(self, name: str, ends_ray: bool) -> None:
        self.name = name
        self.rest = ""
        self.grpc = ""
        self._ends_ray = ends_ray
        self._connection: Connection | None = None

    def __repr__(self) -> str:
        if self.name not in _running:
            return f"LocalApp({self.name!r}, stopped)"
        return f"LocalApp({self.name!r}, REST at {self.rest}, gRPC at {self.grpc})"

    @property
    def connection(self) -> Connection:
        """The connection to it that `serving_app.connect` gives."""
        if _running.get(self.name) is not self:
            raise FailedPrecondition(f"the app {self.name!r} was stopped; start it again")
        if self._connection is None:
            self._connection = connect(self.name)
        return self._connection

    def stop(self) -> None:
        """End it with all of its versions, and the Ray cluster that was started for it. Again it does nothing."""
        if _running.get(self.name) is not self:
            return
        del _running[self.name]
        if self._connection is not None:
            self._connection.close()
        if _is_gone(self):
            return
        remove(self.name, print)
        if not self._ends_ray:
            shut_empty_serve_down()
        elif _running:
            next(iter(_running.values()))._ends_ray = True
        else:
            leave_ray(True, print)

    def __enter__(self) -> LocalApp:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop()


def _stop_all() -> None:
    for app in list(_running.values()):
        app.stop()


def _is_gone(app: LocalApp) -> bool:
    """Whether it went with its cluster, as by `ray.shutdown()`."""
    import ray

    if app._ends_ray:
        return not ray.is_initialized()
    try:
        join_cluster()
    except Unreachable:
        return True
    return False


def start_app(models: Mapping[str, Any], *, name: str = "notebook", **settings: Any) -> LocalApp:
    """Serve models from this process; returns when each of them answers, with all versions that are to be served.

    `models` and the other settings are those of a configuration: a model is a base path, or a mapping. Ports are free
    ones unless the setting `gateway` names others. An app of this name that this process has started already is stopped
    first, so that a cell may be run again. Raises what keeps a model from answering, and then nothing is left.
    """
    config = _read(models, settings)
    if name in _running:
        _running[name].stop()
    app = LocalApp(name, _join_ray())
    # Only now: what is registered later runs earlier, and Ray registers its own shutdown when it is imported.
    atexit.unregister(_stop_all)
    atexit.register(_stop_all)
    try:
        start_serve(0, print)
        refuse_to_replace(name, "start this one by another name")
    except BaseException:
        if app._ends_ray:
            leave_ray(True, print)
        raise
    _running[name] = app
    try:
        deploy(config, name)
        wait_until_running(name, threading.Event(), print)
        view = _wait_until_settled(app, config)
        _refuse_silent(view)
        for model in view.models:
            _wait_until_told(app.connection, model)
        addresses: Mapping[str, str] = next(iter(view.gateways.values()), {})
        app.rest, app.grpc = addresses.get("REST", ""), addresses.get("gRPC", "")
    except BaseException:
        app.stop()
        raise
    return app


def _read(models: Mapping[str, Any], settings: Mapping[str, Any]) -> ServingConfig:
    gateway = {"rest_port": _free_port(), "grpc_port": _free_port(), **settings.get("gateway", {})}
    return parse({**settings, "models": {name: _as_text(model) for name, model in models.items()}, "gateway": gateway})


def _as_text(model: Any) -> Any:
    """A model's setting with paths as configurations have them: absolute texts."""
    if isinstance(model, Mapping):
        return {key: _as_text(value) if key == "base_path" else value for key, value in model.items()}
    if isinstance(model, os.PathLike):
        return os.path.abspath(model)
    return model


def _free_port() -> int:
    while True:
        port = random.choice(_PORTS)
        if port in _taken:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _taken.add(port)
        return port


def _join_ray() -> bool:
    """Whether a Ray cluster was started here; else this process is part of one that was there."""
    # Both tell every notebook without `ipywidgets`, of which nothing here has any use.
    logging.getLogger("ray.widgets.util").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", "IProgress not found")
    import ray

    if ray.is_initialized():
        return False
    return join_or_start_ray(os.environ.get("RAY_ADDRESS") or None, print)


def _wait_until_settled(app: LocalApp, config: ServingConfig) -> AppView:
    """The app when each version that its models are to serve answers or has failed."""
    while True:
        view = app.connection.status()
        if view.gateways and is_settled(config, view) and all(map(_is_whole, view.models.values())):
            return view
        time.sleep(_LOOK_S)


def _is_whole(model: ModelView) -> bool:
    done = {each.servable.version for each in model.versions if each.state is State.READY or each.error is not None}
    return done >= (model.aspired or frozenset())


def _wait_until_told(connection: Connection, model: str) -> None:
    """Returns when this process knows the way to a model that answers: it hears of it as soon as gateways do, or later.
    """
    while True:
        try:
            connection.model(model).metadata()
        except NotFound:
            time.sleep(_LOOK_S)
        else:
            return


def _refuse_silent(view: AppView) -> None:
    """FailedPrecondition if a model does not answer, with what keeps it from that."""
    for model in view.models.values():
        if not any(version.state is State.READY for version in model.versions):
            raise FailedPrecondition(f"{model.name} does not answer: {'; '.join(_reasons(model))}")


def _reasons(model: ModelView) -> Iterator[str]:
    yield from obstacles(model)
    yield from (f"version {each.servable.version}: {each.error}" for each in model.versions if each.error)
