"""Calling servables from any Ray job: by name, version or label, without a socket.

    from serving_app import connect

    model = connect().model("half_plus_two", label="stable")
    model.predict(x=[1.0, 2.0, 5.0])             # {"y": array([2.5, 3. , 4.5], dtype=float32)}
    await model.predict_async(x=[1.0, 2.0, 5.0])

A connection follows the route table as a gateway does, so new versions and moved labels need no reconnect. It works in
plain scripts, notebooks, tasks, actors and Serve deployments: everything runs on one event loop in a thread of its own.

The same connection asks and tells the controller, which calls never do: `connect().status()`, `model.set_label(...)`.
"""

from __future__ import annotations

import asyncio
import atexit
import json
import os
import threading
import uuid
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import Future
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from serving_app.client.control import ConfigForm, Control, find_controller, join_cluster
from serving_app.core.errors import DeadlineExceeded, InvalidArgument, NotFound, Unavailable
from serving_app.core.history import Happening
from serving_app.core.placement import Placement
from serving_app.core.plan import Plan
from serving_app.core.routing import Route, RouteTable, find_statuses, resolve
from serving_app.core.routing import VersionStatus as VersionStatus
from serving_app.core.servable import ModelSpec
from serving_app.core.signatures import DEFAULT_SIGNATURE
from serving_app.core.views import AppView
from serving_app.protocol.calls import Call, Outputs
from serving_app.protocol.input_tensors import to_inputs
from serving_app.protocol.lane_tensors import LARGE_BYTES
from serving_app.protocol.predict_checks import find_signature, select_outputs

T = TypeVar("T")

DEFAULT_TIMEOUT_S = 60.0


def connect(app: str = "default", *, address: str | None = None) -> Connection:
    """A connection to the serving app of this name on the Ray cluster that this process belongs to.

    A process that belongs to none yet joins the one at `address`, or the one that Ray finds by itself. Raises
    Unavailable when there is no cluster, or no such serving app on it.
    """
    join_cluster(address)
    return Connection(app)


@lru_cache(maxsize=1)
def _background_loop() -> asyncio.AbstractEventLoop:
    """The event loop of all connections of this process, in a thread of its own.

    It runs as long as the process: Serve's routers are bound to the loop on which a handle was first used.
    """
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="serving-app", daemon=True).start()
    return loop


class Connection:
    """A follower of one serving app's routes. Closed by `close`, at the end of a `with` block, or with the process."""

    def __init__(self, app: str) -> None:
        from serving_app import ray_private
        from serving_app.client.gateway_calls import GatewayCallers
        from serving_app.client.handle_calls import HandleCallers
        from serving_app.client.route_follower import RouteFollower

        ray_private.raise_reply_limit()
        self._app = app
        self._control = Control(app)
        self._callers = HandleCallers()
        self._gateways = GatewayCallers()
        self._follower = RouteFollower(f"client:{uuid.uuid4()}", self._find_controller, self._prepare)
        self._closed = False
        self._on_loop(self._follower.start()).result()
        atexit.register(self.close)

    def model(self, name: str, *, version: int | None = None, label: str | None = None) -> Model:
        """A model by name: its latest version, or one by number or by label. Looked up at each call."""
        if version is not None and label is not None:
            raise ValueError("name a version or a label, not both")
        return Model(self, ModelSpec(name, version, label))

    def status(self) -> AppView:
        """Everything that is served, with its states, and everything that is wrong."""
        return self._wait(self._control.view())

    def config(self, form: ConfigForm = "yaml", *, secrets: bool = False) -> str:
        """The configuration in force, as a text. Credentials are written as `***` unless `secrets` are asked for."""
        return self._wait(self._control.config(form, secrets=secrets))

    def apply(self, config: str | Mapping[str, Any] | os.PathLike[str], *, dry_run: bool = False) -> Plan:
        """Put a configuration in force; returns what that changed, or with `dry_run` what it would change.

        `config` is a text in either form, the path of a file with one, or the settings as a mapping. What is refused
        changes nothing.
        """
        text, source = read_config(config)
        return self._wait(self._control.apply(text, source, dry_run=dry_run))

    def history(
        self, model: str | None = None, version: int | None = None, limit: int = 100
    ) -> tuple[Happening, ...]:
        """The newest things that happened, oldest first: to everything, to a model, or to one of its versions."""
        return self._wait(self._control.history(model, version, limit))

    def close(self) -> None:
        """Follow no more. Calls that are under way fail; closing again does nothing."""
        if not self._closed:
            self._on_loop(self._stop()).result()
            self._closed = True
        atexit.unregister(self.close)

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def _on_loop(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        if self._closed:
            work.close()
            raise Unavailable("this connection is closed; connect again")
        return asyncio.run_coroutine_threadsafe(work, _background_loop())

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        return self._on_loop(work).result()

    async def _stop(self) -> None:
        await self._follower.stop()
        self._callers.close_lanes()

    async def _find_controller(self) -> Any:
        return await find_controller(self._app)

    async def _prepare(self, table: RouteTable) -> None:
        await asyncio.gather(self._callers.prepare(table), self._gateways.prepare(table))

    def _route(self, spec: ModelSpec) -> Route:
        return resolve(spec, self._follower.table)

    async def _call(self, spec: ModelSpec, call: Call) -> Outputs:
        with self._follower.lease() as table:
            route = resolve(spec, table)
            is_colocated = route.placement is Placement.COLOCATED
            caller = self._gateways.find(route) if is_colocated else self._callers.find(route.app)
            try:
                async with asyncio.timeout(call.timeout):
                    return _apart(await caller.call(call))
            except TimeoutError:
                raise DeadlineExceeded(f"{spec.name} gave no answer within {call.timeout} s") from None


def _apart(outputs: Outputs) -> Outputs:
    """The outputs, none of which keeps more memory than its own: small ones look into all that came with them, and
    whoever called may keep them for long."""
    return {name: each.copy() if each.nbytes < LARGE_BYTES else each for name, each in outputs.items()}


class Model:
    """One model as requests name it."""

    def __init__(self, connection: Connection, spec: ModelSpec) -> None:
        self._connection = connection
        self._spec = spec

    def predict(
        self,
        inputs: Mapping[str, Any] | None = None,
        /,
        *,
        signature_name: str = DEFAULT_SIGNATURE,
        outputs: Sequence[str] = (),
        timeout: float | None = DEFAULT_TIMEOUT_S,
        **named: Any,
    ) -> dict[str, np.ndarray[Any, Any]]:
        """The outputs of one call, by name. Blocks; from a coroutine, await `predict_async`.

        Inputs are given by keyword or as a mapping: arrays, nested lists or scalars, turned into the signature's types.
        """
        return self._submit({**(inputs or {}), **named}, signature_name, outputs, timeout).result()

    async def predict_async(
        self,
        inputs: Mapping[str, Any] | None = None,
        /,
        *,
        signature_name: str = DEFAULT_SIGNATURE,
        outputs: Sequence[str] = (),
        timeout: float | None = DEFAULT_TIMEOUT_S,
        **named: Any,
    ) -> dict[str, np.ndarray[Any, Any]]:
        """The same without blocking; many may be under way at once."""
        return await asyncio.wrap_future(
            self._submit({**(inputs or {}), **named}, signature_name, outputs, timeout)
        )

    def status(self) -> tuple[VersionStatus, ...]:
        """The states of the model's versions, newest first."""
        return find_statuses(self._spec, self._connection._follower.table)

    def labels(self) -> dict[str, int]:
        """The model's labels and the version that each names, whether that is ready or not."""
        view = self._connection.status().models.get(self._spec.name)
        if view is None:
            raise NotFound(f"Could not find any versions of model {self._spec.name}")
        return dict(view.labels)

    def set_label(self, label: str, version: int) -> None:
        """Let a label name this version; returns when every gateway and caller routes by it, this one included."""
        self._connection._wait(self._connection._control.set_label(self._spec.name, label, version))

    def delete_label(self, label: str) -> None:
        """Take a label away; requests that name it are refused from then on."""
        self._connection._wait(self._connection._control.delete_label(self._spec.name, label))

    def history(self, limit: int = 100) -> tuple[Happening, ...]:
        """The newest things that happened to the model, oldest first; to one version, if this names one."""
        return self._connection.history(self._spec.name, self._spec.version, limit)

    def _submit(
        self, inputs: Mapping[str, Any], signature_name: str, outputs: Sequence[str], timeout: float | None
    ) -> Future[Outputs]:
        signature = find_signature(self._connection._route(self._spec).signatures, signature_name)
        tensors = to_inputs(inputs, signature, signature_name)
        call = Call(signature_name, tensors, select_outputs(signature, outputs), timeout)
        return self._connection._on_loop(self._connection._call(self._spec, call))


def read_config(config: str | Mapping[str, Any] | os.PathLike[str]) -> tuple[str, str]:
    """A configuration as a text, and how errors should call it."""
    if isinstance(config, Mapping):
        return json.dumps(config, ensure_ascii=False, allow_nan=False), "The configuration"  # JSON is YAML, too
    if isinstance(config, str):
        if "\n" not in config and os.path.isfile(config):
            raise InvalidArgument(f"{config!r} names a file; hand over pathlib.Path({config!r}) to apply what is in it")
        return config, "The configuration"
    path = Path(config)
    try:
        return path.read_text(encoding="utf-8"), str(path)
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"The configuration file {path} cannot be read: {error}") from error
