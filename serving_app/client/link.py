"""What a process shares to call one serving app: the routes that it follows, and the ways to the replicas.

However many connections a process opens, it follows the routes of an app once, and has one set of lanes and handles.
The link is there while somebody holds it, and for a moment after that: tasks connect, ask and forget the connection.

All links live on one event loop (`link_loop`), whatever loops the process has besides.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import random
import time
import uuid
from functools import lru_cache
from typing import Any, TypeVar

from serving_app.client.control import RETRY_S, TIMEOUT_S, Unreachable, find_controller
from serving_app.client.link_loop import call_soon, is_forked, run, wait
from serving_app.client.lone_calls import LoneCalls, NotHere
from serving_app.client.prediction import Prediction
from serving_app.client.remote_errors import Lost, of_a_hop
from serving_app.client.request import MakeCall, Request
from serving_app.core.errors import Code, DeadlineExceeded, ServingError, Unavailable, code_of
from serving_app.core.metrics import Registry
from serving_app.core.routing import Route, RouteTable, find_candidate, resolve
from serving_app.core.servable import ModelSpec
from serving_app.core.traffic import Attributes
from serving_app.protocol.calls import Call, Outputs
from serving_app.protocol.lane_tensors import LARGE_BYTES

T = TypeVar("T")

_LINGER_S = 10.0
"""How long a link is kept that nobody holds any more."""

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 1.0
"""Before a call that was refused is tried again."""

_PATIENCE_S = 60.0
"""How long refused calls without a timeout of their own are tried again."""

_LEAST_S = 0.001
"""What a call has of its time at least when it leaves."""

_GOOD_BYE_S = 5.0
"""How long a process that ends waits for apps to hear of it."""


class Link:
    """The way to one serving app."""

    def __init__(self, app: str, cluster: str) -> None:
        """`cluster` is where this process belongs, as `cluster_of_process` tells."""
        from serving_app import ray_private
        from serving_app.client.call_meter import CallMeter
        from serving_app.client.callers import Callers
        from serving_app.client.copying import Copying
        from serving_app.client.courier import Courier
        from serving_app.client.route_follower import RouteFollower

        ray_private.raise_reply_limit()
        self._app = app
        self._cluster = cluster
        self._callers = Callers()
        self._lone = LoneCalls()
        self._follower = RouteFollower(f"client:{uuid.uuid4()}", self._find_controller, self._prepare)
        registry = Registry()
        self._meter = CallMeter(registry, lambda model: model in self.table.models)
        self._copying = Copying(registry, lambda: self.table, self._submit)
        self._courier = Courier(self._follower.name, registry, self._known_controller)
        self._starting = asyncio.ensure_future(self._begin())
        self._holders = 0
        self._is_stopped = False

    @property
    def table(self) -> RouteTable:
        """The table in force. May be looked at from any thread."""
        return self._follower.table

    def route(self, spec: ModelSpec, attributes: Attributes) -> Route:
        """The route for a request at present. May be asked from any thread."""
        return resolve(spec, self.table, attributes)

    def make_request(self, spec: ModelSpec, attributes: Attributes, make: MakeCall) -> Request:
        """A request with its call made for the version that it means at present. May be asked from any thread. What is
        wrong with the request counts as its outcome."""
        route = None
        try:
            table = self.table
            route = resolve(spec, table, attributes)
            candidate = find_candidate(spec, table, route)
            return Request(spec, attributes, make, table, route, candidate, make(route.signatures))
        except Exception as error:
            self._meter.fail(spec, route, "", code_of(error))
            raise

    def ask(self, request: Request) -> Prediction:
        """The same as `call` comes to, for a thread that waits; not the one of links."""
        began = time.monotonic()
        try:
            return self._ask_here(request)
        except NotHere as error:
            may_have_run = error.may_have_run
        try:
            return wait(self.call(request, time.monotonic() - began))
        except Unavailable as error:
            if may_have_run:
                raise Lost(error.message) from error
            raise

    def _ask_here(self, request: Request) -> Prediction:
        """The outputs, if nobody else of this process asks for that version now. Raises NotHere."""
        began, spec = time.perf_counter(), request.spec
        with self._follower.lease_for_thread() as table:
            try:
                request = request.by(table)
            except Exception as error:
                self._meter.fail(spec, None, "", code_of(error))
                raise
            route, call = request.route, request.call
            found = self._callers.find_idle(route)
            if found is None or request.candidate is not None:
                raise NotHere
            if call.timeout is not None and call.timeout < _LEAST_S:
                raise NotHere
            try:
                [reply] = self._lone.ask(*found, call).replies
            except NotHere:
                raise
            except TimeoutError:
                self._meter.fail(spec, route, call.signature_name, Code.DEADLINE_EXCEEDED)
                raise DeadlineExceeded(f"{spec.name} gave no answer within {call.timeout} s") from None
            except BaseException as error:
                self._meter.fail(spec, route, call.signature_name, code_of(error))
                raise (of_a_hop(error) if isinstance(error, ServingError) else error) from None
        if isinstance(reply, ServingError):
            self._meter.fail(spec, route, call.signature_name, reply.code)
            if isinstance(reply, Unavailable):
                raise NotHere  # refused: the loop asks again, at once and then after pauses
            raise reply
        self._meter.succeed(spec, route, call, time.perf_counter() - began)
        return _apart(reply, route)

    async def call(self, request: Request, spent: float = 0.0) -> Prediction:
        """The outputs of the version that the request means now, `spent` seconds of whose time are over.

        Whoever refuses it before anything was done is asked again within its timeout, after growing pauses and by the
        routes of that time. What may have been done is not: Lost tells of that.
        """
        loop = asyncio.get_running_loop()
        began, pause = loop.time() - spent, _FIRST_PAUSE_S
        timeout = request.call.timeout
        patience = _PATIENCE_S if timeout is None else timeout
        try:
            async with asyncio.timeout(None if timeout is None else timeout - spent) as limit:
                while True:
                    try:
                        return await self._call_once(request.later(loop.time() - began), limit)
                    except Lost:
                        raise
                    except Unavailable:
                        rest = pause * random.uniform(0.5, 1.5)
                        if loop.time() + rest - began >= patience:
                            raise
                    await asyncio.sleep(rest)
                    request = request.refused()
                    pause = min(2 * pause, _LONGEST_PAUSE_S)
        except TimeoutError:
            raise DeadlineExceeded(f"{request.spec.name} gave no answer within {timeout} s") from None

    async def _call_once(self, request: Request, limit: asyncio.Timeout) -> Prediction:
        began, route = time.perf_counter(), None
        spec, call = request.spec, request.call
        try:
            with self._follower.lease() as table:
                request = request.by(table)
                route, call = request.route, request.call
                if call.timeout is not None:
                    call = call._replace(timeout=max(_LEAST_S, call.timeout))
                answering = self._callers.find(route).call(call)
                outputs = await self._copying.watch(route, request.candidate, call, answering)
        except BaseException as error:
            is_late = limit.expired() and isinstance(error, asyncio.CancelledError)
            code = Code.DEADLINE_EXCEEDED if is_late else code_of(error)
            self._meter.fail(spec, route, call.signature_name, code)
            raise
        self._meter.succeed(spec, route, call, time.perf_counter() - began)
        return _apart(outputs, route)

    def _submit(self, route: Route, call: Call) -> asyncio.Future[Outputs]:
        return self._callers.find(route).submit(call)

    async def bring_counts(self) -> None:
        """Let the app know what was asked until now, if it can be reached."""
        await self._courier.bring()

    def check_cluster(self) -> None:
        """Unreachable if the process has left the cluster: Ray would start one of its own for whoever calls then."""
        if cluster_of_process() != self._cluster:
            raise Unreachable("this process has left the Ray cluster that it was connected to; connect again")

    def _known_controller(self) -> Any:
        """The one that routes come from. A process that ends can look for none any more: that takes a thread."""
        self.check_cluster()
        return self._follower.controller

    async def _find_controller(self) -> Any:
        self.check_cluster()
        return await find_controller(self._app)

    async def _prepare(self, table: RouteTable) -> None:
        await self._callers.prepare(table)
        self._lone.follow({door for doors in table.doors.values() for door in doors})

    async def _begin(self) -> None:
        """Follow the routes from the first table on. A controller that starts again is waited for."""
        from ray.exceptions import RayActorError, RayError

        loop = asyncio.get_running_loop()
        ends = loop.time() + TIMEOUT_S
        while True:
            try:
                await self._follower.start()
                self._courier.start()
                return
            except RayError as error:
                if not isinstance(error, RayActorError) or loop.time() >= ends:
                    raise Unavailable(
                        f"the serving app {self._app!r} tells no routes now ({error}); try again"
                    ) from error
            await asyncio.sleep(RETRY_S)

    async def _start(self) -> None:
        self._holders += 1
        try:
            await asyncio.shield(self._starting)
        except BaseException:
            await self._let_go()
            raise

    async def _let_go(self) -> None:
        self._holders -= 1
        if not self._holders:
            await self._stop()

    async def _stop(self) -> None:
        if not self._is_stopped:
            self._is_stopped = True
            if _links.get((self._app, self._cluster)) is self:
                del _links[self._app, self._cluster]
            self._starting.cancel()
            await asyncio.gather(self._starting, return_exceptions=True)
            self._copying.close()
            await self._courier.stop()
            await self._follower.stop(says_so=cluster_of_process() == self._cluster)
            self._callers.close_lanes()
            self._lone.close()

    def _forget_holder(self) -> None:
        asyncio.get_running_loop().call_later(_LINGER_S, self._end_lingering)

    def _end_lingering(self) -> None:
        ending = asyncio.ensure_future(self._let_go())
        _endings.add(ending)
        ending.add_done_callback(_endings.discard)


_links: dict[tuple[str, str], Link] = {}
"""By app and cluster. Only what runs on the loop looks at it."""

_endings: set[asyncio.Future[None]] = set()


def hold(app: str) -> Link:
    """The link of this process to an app, to be let go of again. Raises what finding the controller raises."""
    _promise_good_bye()
    return wait(_hold(app, cluster_of_process()))


def let_go(link: Link) -> None:
    """Somebody who held a link has no use for it. The last one ends it; what is under way is still answered."""
    if not is_forked():  # else it is the parent's to say good-bye
        wait(link._let_go())


def forget(link: Link) -> None:
    """The same, of a holder that nobody remembers; a moment later, and without waiting. May be called anywhere."""
    if not is_forked():  # neither the loop nor its locks are of this process then
        call_soon(link._forget_holder)


def cluster_of_process() -> str:
    """The Ray cluster and the job that this process is part of now; empty if there is none."""
    import ray

    if not ray.is_initialized():
        return ""
    context = ray.get_runtime_context()
    return f"{context.gcs_address} {context.get_job_id()}"


async def _hold(app: str, cluster: str) -> Link:
    link = _links.get((app, cluster))
    if link is None:
        link = _links[app, cluster] = Link(app, cluster)
    await link._start()
    return link


@lru_cache(maxsize=1)
def _promise_good_bye() -> None:
    atexit.register(_say_good_bye)


def _say_good_bye() -> None:
    with contextlib.suppress(TimeoutError):  # nobody listens any more; what the process has leased lapses by itself
        if not is_forked():
            run(_stop_all()).result(_GOOD_BYE_S)


async def _stop_all() -> None:
    for link in list(_links.values()):
        await link._stop()


def _apart(outputs: Outputs, route: Route) -> Prediction:
    """The outputs, none of which keeps more memory than its own: small ones look into all that came with them, and
    whoever called may keep them for long."""
    apart = {name: each.copy() if each.nbytes < LARGE_BYTES else each for name, each in outputs.items()}
    return Prediction(apart, route.servable)
