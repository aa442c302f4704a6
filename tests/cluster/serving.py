"""A serving app on the tests' cluster: putting it there, looking at it from outside, taking it away."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import ray
from ray import serve
from ray.serve.context import _get_global_client

from benchmarks.ports import free_port
from serving_app.config import parse
from serving_app.core.names import parse_servable_app
from serving_app.core.routing import RouteTable, VersionStatus
from serving_app.core.states import PublicState
from serving_app.core.views import AppView
from serving_app.serve.builder import build
from serving_app.serve.controller import find_controller
from tests.cluster.waiting import PATIENCE_S, wait_for


class Serving:
    """One serving app by name, with ports of its own."""

    def __init__(self, name: str, door_port: int) -> None:
        self.name = name
        self.door_port = door_port
        self.rest_port = free_port()
        self.grpc_port = free_port()
        self.clients = ExitStack()
        """What is to be closed before the app goes."""

    @property
    def prefix(self) -> str:
        """Where Serve's HTTP door has this app."""
        return f"/{self.name}"

    def deploy(self, models: dict[str, Any], gateways: int = 1, **settings: Any) -> None:
        """Deploy the app, or change it; returns when its gateways run."""
        ports = {"rest_port": self.rest_port, "grpc_port": self.grpc_port}
        # As patient as the tests.
        limits = {"request_timeout_s": PATIENCE_S, "drain_timeout_s": PATIENCE_S}
        gateway = {"replicas": gateways, **ports, **limits, **settings.pop("gateway", {})}
        config = {"models": models, "poll_interval_s": 0.1, "load": {"retry_base_s": 0.2, "retry_max_s": 0.5}}
        serve.run(
            build(parse({**config, **settings, "gateway": gateway}, "The test")), name=self.name,
            route_prefix=self.prefix,
        )

    def remove(self) -> None:
        """Delete the app as a user does; returns when nothing of it is left."""
        self.clients.close()
        serve.delete(self.name)
        self.wait_until_gone()

    def wait_until_gone(self) -> None:
        """Returns when neither its controller nor any of its applications exists."""
        wait_for(f"the end of {self.name}", lambda: not self.has_controller() and not self.apps())

    def has_controller(self) -> bool:
        """Whether its controller actor exists."""
        try:
            find_controller(self.name)
        except ValueError:
            return False
        return True

    def apps(self) -> set[str]:
        """Its applications that exist, the gateway's among them."""
        return {
            name
            for name in serve.status().applications
            if name == self.name or parse_servable_app(self.name, name) is not None
        }

    def ask(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """What a method of its controller answers; an error of ours is raised as it is."""
        try:
            return ray.get(getattr(find_controller(self.name), method).remote(*args, **kwargs), timeout=PATIENCE_S)
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None

    def view(self) -> AppView:
        """Where things stand, as its controller says."""
        view: AppView = self.ask("view")
        return view

    def routes(self) -> RouteTable | None:
        """The table that its gateways route by."""
        table: RouteTable | None = self.ask("routes")
        return table

    def versions(self, model: str) -> dict[int, VersionStatus]:
        """The public status of each known version of a model."""
        table = self.routes()
        if table is None or model not in table.models:
            return {}
        return {status.version: status for status in table.models[model].statuses}

    def wait_for_version(self, model: str, version: int, state: PublicState = PublicState.AVAILABLE) -> VersionStatus:
        """Returns the version's status as soon as it is in this state; if that is AVAILABLE, every gateway knows then.
        """

        def look() -> VersionStatus | None:
            table = self.routes()
            if table is None or model not in table.models:
                return None
            if state is PublicState.AVAILABLE and min(self.view().readers.values(), default=0) < table.revision:
                return None
            found = [each for each in table.models[model].statuses if each.version == version and each.state is state]
            return found[0] if found else None

        return wait_for(f"{model} version {version} to be {state.name}", look)

    def controller_pid(self) -> int:
        """The process of its controller."""
        return pid_of(find_controller(self.name))

    def replicas(self, model: str | None = None, version: int | None = None) -> dict[str, int]:
        """Actor name and process of each running replica: of a version, or of the gateway if no model is named."""
        app = self.name if model is None else f"{self.name}:{model}@{version}"
        details = _get_global_client().get_serve_details()["applications"].get(app, {"deployments": {}})
        return {
            replica["actor_name"]: replica["pid"]
            for deployment in details["deployments"].values()
            for replica in deployment["replicas"]
            if replica["state"] == "RUNNING"
        }


@contextmanager
def serving(name: str, door_port: int) -> Iterator[Serving]:
    """A serving app that is taken away at the end, whatever happened."""
    app = Serving(name, door_port)
    try:
        yield app
    finally:
        app.remove()


def pid_of(actor: Any) -> int:
    """The process of an actor."""
    return int(ray.get(actor.__ray_call__.remote(lambda _self: os.getpid()), timeout=PATIENCE_S))


def kill(pid: int) -> None:
    """End a process without giving it a chance to say good-bye."""
    os.kill(pid, signal.SIGKILL)


def add_version(source: str, base: Path, version: int) -> None:
    """Let a version appear under a base path, all of it at once."""
    staged = base.parent / f"{base.name}-{version}.staged"
    shutil.copytree(source, staged)
    base.mkdir(exist_ok=True)
    staged.rename(base / str(version))
