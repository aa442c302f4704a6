"""Asking the controller of a serving app, and telling it: what is served, what is in force, what happened.

    control = Control("default")
    view = await control.view()
    plan = await control.apply(text, "models.yaml", dry_run=True)

This is the way in for tools. It follows no routes and holds no connection: each question finds the controller anew, so
one object may be kept for as long as anybody likes, and used on any event loop. Every answer comes within the time
given or ends in an error; a controller that restarts meanwhile is waited for.
"""

from __future__ import annotations

import asyncio
import logging
import math
import socket
import uuid
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal, Protocol, TypeVar

from serving_app.client.ray_token import use_token
from serving_app.client.remote_errors import cause_of
from serving_app.core.errors import DeadlineExceeded, FailedPrecondition, Unavailable
from serving_app.core.history import Happening
from serving_app.core.metrics import Snapshot
from serving_app.core.names import NAMESPACE, controller_name
from serving_app.core.plan import Plan
from serving_app.core.rollout import Rollout
from serving_app.core.routing import RouteTable
from serving_app.core.stacks import AppProfile
from serving_app.core.views import AppView

TIMEOUT_S = 30.0
"""How long a question may take, restarts of the controller included: those take a second or two."""

RETRY_S = 0.2

T = TypeVar("T")

ConfigForm = Literal["yaml", "tfs"]
"""How a configuration is written: our YAML, or TensorFlow Serving's text form, which holds the models alone."""


class Unreachable(Unavailable):
    """There is no Ray cluster to ask, or no serving app of this name on it."""


def join_cluster(address: str | None = None, logging_level: int = logging.WARNING) -> None:
    """Make this process part of the Ray cluster at `address`, or of the one that Ray finds, unless it is of one.

    `logging_level` is Ray's. Raises Unreachable, within seconds, where no cluster answers, and FailedPrecondition in a
    process that is part of another cluster than the one at `address`, or of none itself, as clients of Ray Client are,
    and where there is no Ray.
    """
    use_token(address)
    try:
        import ray
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise FailedPrecondition(
            "Ray is not installed, by which servables are called on a cluster: pip install 'serving-app[serve]', or "
            "call the app by REST or gRPC (serving_app.remote)"
        ) from error
    if (address or "").startswith("ray://") or _is_ray_client():
        raise FailedPrecondition(
            "a process behind Ray Client (ray://) is not part of the cluster, and cannot call servables by handle; "
            "run it there by `ray job submit`, or call the app by REST or gRPC"
        )
    if ray.is_initialized():
        if address not in (None, "auto"):
            _check_address(str(address), ray.get_runtime_context().gcs_address)
        return
    from serving_app import ray_private

    if ray_private.find_cluster(address) is None:
        where = f" at {address}" if address else ""
        raise Unreachable(f"no Ray cluster answers{where}; start one with `serving-app up`, or give the address of one")
    try:
        ray.init(address=address or "auto", log_to_driver=False, logging_level=logging_level)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise Unreachable(
            f"no Ray cluster found ({error}); start one with `serving-app up`, or give its address. "
            "If it asks for a token, set RAY_AUTH_MODE=token"
        ) from error


def _is_ray_client() -> bool:
    from ray.util.client import ray as client

    return bool(client.is_connected())  # type: ignore[no-untyped-call]  # Ray leaves it untyped


def _check_address(wanted: str, joined: str) -> None:
    """FailedPrecondition if these are surely two clusters. A port has one name, a host may have many."""
    host, _, port = wanted.rpartition(":")
    joined_host, _, joined_port = joined.rpartition(":")
    if port == joined_port:
        try:
            one, other = socket.gethostbyname(host), socket.gethostbyname(joined_host)
        except OSError:
            return
        if one == other or one.startswith("127.") or other.startswith("127."):
            return
    raise FailedPrecondition(
        f"this process is part of the Ray cluster at {joined} already, and cannot join the one at {wanted}; ask that "
        "one from another process, or call `ray.shutdown()` first"
    )


class OnThread(Protocol):
    """Calls a function on some thread, and returns what it returns; as `asyncio.to_thread`."""

    def __call__(self, function: Callable[..., T], /, *arguments: Any, **options: Any) -> Awaitable[T]: ...


async def find_controller(app: str, on_thread: OnThread = asyncio.to_thread) -> Any:
    """The controller actor of a serving app on the cluster that this process is part of. Raises Unreachable.

    The head of the cluster is asked, which may take long: on threads, which `on_thread` has.
    """
    import ray

    try:
        return await on_thread(ray.get_actor, controller_name(app), namespace=NAMESPACE)
    except ValueError:
        from serving_app import ray_private

        asked = ray.get_runtime_context().gcs_address
        named = await on_thread(_apps)
        if named:
            raise Unreachable(
                f"no serving app named {app!r} runs on the Ray cluster at {asked}, where there "
                f"{'are' if len(named) > 1 else 'is'} {' and '.join(map(repr, named))}; name one of these, or start it"
            ) from None
        others = [address for address in await on_thread(ray_private.clusters_here) if address != asked]
        which = f", which may be {' or '.join(others)}" if others else ""
        raise Unreachable(
            f"no serving app named {app!r} runs on the Ray cluster at {asked}; start it with `serve run "
            f"serving_app:app …` or `serving-app up`, or name the cluster on which it runs by RAY_ADDRESS{which}"
        ) from None


def _apps() -> list[str]:
    """The serving apps of the cluster, by name."""
    from ray.util import list_named_actors

    prefix = controller_name("")
    return sorted(
        each["name"].removeprefix(prefix)
        for each in list_named_actors(all_namespaces=True)
        if each["namespace"] == NAMESPACE and each["name"].startswith(prefix)
    )


class Control:
    """The controller of one serving app, for people and tools. Each method asks once and returns the answer.

    What the controller refuses is raised as it raised it; a controller that cannot be found is Unreachable; one that
    gives no answer in time is DeadlineExceeded, and then it is not known whether a change was made.
    """

    def __init__(
        self,
        app: str = "default",
        *,
        timeout_s: float = TIMEOUT_S,
        find: Callable[[str], Awaitable[Any]] = find_controller,
    ) -> None:
        self.app = app
        self._timeout_s = timeout_s
        self._find = find

    async def view(self) -> AppView:
        """Everything that is served, with its states, and everything that is wrong."""
        view: AppView = await self._ask("view")
        return view

    async def wait_for_change(self, seen: int, timeout_s: float) -> int:
        """A number that grows with every change of the view: at once if it is not `seen`, else when something changes.

        Returns `seen` when nothing does for `timeout_s`. Begin with -1.
        """
        count: int = await self._ask("wait_for_change", seen, timeout_s, more_s=timeout_s)
        return count

    async def routes(self) -> RouteTable:
        """The table that gateways and callers route by; before there is one, an empty one."""
        table: RouteTable | None = await self._ask("routes")
        return table or RouteTable()

    async def config(self, form: ConfigForm = "yaml", *, secrets: bool = False) -> str:
        """The configuration in force. Credentials are written as `***` unless `secrets` are asked for."""
        text: str = await self._ask("config_text", form, secrets)
        return text

    async def apply(self, text: str, source: str, *, dry_run: bool = False) -> Plan:
        """Put a configuration in force, in either form; returns what that changed, or would change.

        `source` is how errors call the text. What is refused changes nothing.
        """
        plan: Plan = await self._ask("apply", text, source, dry_run)
        return plan

    async def reload(self, serialized_model_server_config: bytes, wait_s: float | None = None) -> None:
        """Serve the models of a ModelServerConfig in place of those served now, as HandleReloadConfigRequest does.

        Returns when each new one has a version that is ready; None waits for that for as long as it takes.
        """
        more_s = math.inf if wait_s is None else wait_s
        await self._ask("reload", serialized_model_server_config, wait_s, more_s=more_s)

    async def add_model(self, settings: Mapping[str, Any], *, dry_run: bool = False) -> Plan:
        """Serve one more model, with these settings; returns what that changed, or would change."""
        plan: Plan = await self._ask("add_model", dict(settings), dry_run)
        return plan

    async def set_label(self, model: str, label: str, version: int) -> None:
        """Let a label of a model name this version; returns when every gateway and caller routes by it."""
        await self._ask("set_label", model, label, version)

    async def delete_label(self, model: str, label: str) -> None:
        """Take a label away from a model; returns when nobody routes by it any more."""
        await self._ask("delete_label", model, label)

    async def set_traffic(self, model: str, target: str, traffic: Mapping[str, Any]) -> None:
        """Share the requests for a label, or those for `default`; returns when every gateway and caller routes so."""
        await self._ask("set_traffic", model, target, traffic)

    async def delete_traffic(self, model: str, target: str) -> None:
        """Share them no more; returns when nobody does."""
        await self._ask("delete_traffic", model, target)

    async def rollouts(self, model: str | None = None) -> tuple[Rollout, ...]:
        """The rollouts that go on and the last that did, of one model or of all; the newest comes last."""
        rollouts: tuple[Rollout, ...] = await self._ask("rollouts", model)
        return rollouts

    async def rollout(self, number: int) -> Rollout:
        """One of them."""
        rollout: Rollout = await self._ask("rollout", number)
        return rollout

    async def start_rollout(
        self, model: str, to_version: int, target: str, strategy: str | Mapping[str, Any]
    ) -> Rollout:
        """Begin to move the requests for a label, or those for `default`, to a version; see client.rollouts."""
        rollout: Rollout = await self._ask("start_rollout", model, to_version, target, strategy, _mark())
        return rollout

    async def move_rollout(self, number: int, action: str) -> Rollout:
        """Do with a rollout: promote, promote_full, pause, resume, abort, retry or undo. Returns when every gateway and
        caller routes so."""
        rollout: Rollout = await self._ask("move_rollout", number, action, _mark())
        return rollout

    async def report_rollout_value(
        self, number: int, name: str, value: float | str, version: int | None = None
    ) -> None:
        """The metric that a gate of a rollout wants has this value now, for the new version or the old one. A text in
        its place says why there is none."""
        await self._ask("report_rollout_value", number, name, value, version)

    async def history(
        self, model: str | None = None, version: int | None = None, limit: int = 100
    ) -> tuple[Happening, ...]:
        """The newest things that happened, oldest first: to everything, to a model, or to one of its versions."""
        happenings: tuple[Happening, ...] = await self._ask("history", model, version, limit)
        return happenings

    async def metrics(self, asker: str | None = None) -> Snapshot:
        """What all gateways and replicas have counted until now. `asker` is the one of them that asks, if one does.

        Raises Unavailable while that is not known exactly, shortly after a restart of the controller.
        """
        snapshot: Snapshot = await self._ask("collect_metrics", asker)
        return snapshot

    async def profile(self, seconds: float) -> AppProfile:
        """What the controller, gateways and replicas do with their CPU time for so long. One at a time is taken."""
        profile: AppProfile = await self._ask("profile", seconds, more_s=seconds)
        return profile

    async def _ask(self, method: str, *arguments: Any, more_s: float = 0.0) -> Any:
        limit = self._timeout_s + more_s
        try:
            async with asyncio.timeout(None if math.isinf(limit) else limit):
                return await self._ask_until_answered(method, arguments)
        except TimeoutError:
            raise DeadlineExceeded(
                f"the controller of the serving app {self.app!r} has not answered within {limit:g} s; it may be "
                "starting again, or its node may be overloaded: try once more, then look into its log"
            ) from None

    async def _ask_until_answered(self, method: str, arguments: tuple[Any, ...]) -> Any:
        from ray.exceptions import RayActorError, RayError, RayTaskError

        while True:
            try:
                return await self._call(await self._find(self.app), method, arguments)
            except RayTaskError as error:
                raise cause_of(error) from error
            except RayActorError:  # it starts again, or is gone, which the next look tells
                await asyncio.sleep(RETRY_S)
            except RayError as error:
                raise Unavailable(f"the serving app {self.app!r} cannot be asked now: {error}") from error

    def _call(self, controller: Any, name: str, arguments: tuple[Any, ...]) -> Awaitable[Any]:
        try:
            answer: Awaitable[Any] = getattr(controller, name).remote(*arguments)
        except (AttributeError, TypeError) as error:
            # Ray holds the arguments against the class as it is here, and against nothing where it cannot be imported.
            what = f"does not know {name!r}" if isinstance(error, AttributeError) else f"takes {name!r} differently"
            raise FailedPrecondition(
                f"the controller of the serving app {self.app!r} {what}: it runs another version of serving_app than "
                "this process, or this one is not complete; deploy the application again, or use its version here"
            ) from error
        return answer


def _mark() -> str:
    """By which the controller knows an order again that is given once more, as it died before it could answer."""
    return uuid.uuid4().hex
