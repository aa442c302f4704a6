"""Calling servables from any Ray job: by name, version or label, without a socket.

    from serving_app import connect

    model = connect().model("half_plus_two", label="stable")
    model.predict(x=[1.0, 2.0, 5.0])             # {"y": array([2.5, 3. , 4.5], dtype=float32)}
    await model.predict_async(x=[1.0, 2.0, 5.0])

A connection follows the route table as a gateway does, so new versions and moved labels need no reconnect. It works in
plain scripts, notebooks, tasks, actors and Serve deployments: everything runs on one event loop in a thread of its own.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import threading
import uuid
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import Future
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np

from serving_app.client.tensors import to_tensors
from serving_app.core.errors import DeadlineExceeded, Unavailable
from serving_app.core.names import NAMESPACE, controller_name
from serving_app.core.routing import Route, find_statuses, resolve
from serving_app.core.routing import VersionStatus as VersionStatus
from serving_app.core.servable import ModelSpec
from serving_app.core.signatures import DEFAULT_SIGNATURE
from serving_app.protocol.calls import Call, Outputs
from serving_app.protocol.predict_checks import check_inputs, find_signature, select_outputs

logger = logging.getLogger(__name__)

T = TypeVar("T")

DEFAULT_TIMEOUT_S = 60.0


def connect(app: str = "default", *, address: str | None = None) -> Connection:
    """A connection to the serving app of this name on the Ray cluster that this process belongs to.

    A process that belongs to none yet joins the one at `address`, or the one that Ray finds by itself. Raises
    Unavailable when there is no cluster, or no such serving app on it.
    """
    import ray

    if not ray.is_initialized():
        from serving_app import ray_private

        if ray_private.find_cluster(address) is None:
            raise Unavailable("no Ray cluster answers; start one with `serving-app up`, or give the address of one")
        try:
            ray.init(address=address or "auto", log_to_driver=False, logging_level=logging.WARNING)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise Unavailable(
                f"no Ray cluster found ({error}); start one with `serving-app up`, or give its address. "
                "If it asks for a token, set RAY_AUTH_MODE=token"
            ) from error
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
        from serving_app.client.handle_calls import HandleCallers
        from serving_app.client.route_follower import RouteFollower

        ray_private.raise_reply_limit()
        self._app = app
        self._callers = HandleCallers()
        self._follower = RouteFollower(f"client:{uuid.uuid4()}", self._find_controller, self._callers.prepare)
        self._closed = False
        self._on_loop(self._follower.start()).result()
        atexit.register(self.close)

    def model(self, name: str, *, version: int | None = None, label: str | None = None) -> Model:
        """A model by name: its latest version, or one by number or by label. Looked up at each call."""
        if version is not None and label is not None:
            raise ValueError("name a version or a label, not both")
        return Model(self, ModelSpec(name, version, label))

    def close(self) -> None:
        """Follow no more. Calls that are under way fail; closing again does nothing."""
        if not self._closed:
            self._on_loop(self._follower.stop()).result()
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

    async def _find_controller(self) -> Any:
        import ray

        try:
            return await asyncio.to_thread(ray.get_actor, controller_name(self._app), namespace=NAMESPACE)
        except ValueError:
            raise Unavailable(
                f"no serving app named {self._app!r} runs on the Ray cluster at "
                f"{ray.get_runtime_context().gcs_address}; start it with `serve run serving_app:app …` or "
                "`serving-app up`, or name the cluster on which it runs by RAY_ADDRESS"
            ) from None

    def _route(self, spec: ModelSpec) -> Route:
        return resolve(spec, self._follower.table)

    async def _call(self, spec: ModelSpec, call: Call) -> Outputs:
        with self._follower.lease() as table:
            caller = self._callers.find(resolve(spec, table).app)
            try:
                async with asyncio.timeout(call.timeout):
                    return await caller.call(call)
            except TimeoutError:
                raise DeadlineExceeded(f"{spec.name} gave no answer within {call.timeout} s") from None


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

    def _submit(
        self, inputs: Mapping[str, Any], signature_name: str, outputs: Sequence[str], timeout: float | None
    ) -> Future[Outputs]:
        signature = find_signature(self._connection._route(self._spec).signatures, signature_name)
        tensors = to_tensors(inputs, signature)
        check_inputs(signature, tensors)
        call = Call(signature_name, tensors, select_outputs(signature, outputs), timeout)
        return self._connection._on_loop(self._connection._call(self._spec, call))
