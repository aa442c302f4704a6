"""Every use of Ray that Ray does not promise to keep, in one place.

Each function says what it relies on; `tests/serve/test_ray_private.py` fails loudly when a new Ray changes it.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import ray

if TYPE_CHECKING:  # half of what importing Ray takes, and commands that only look for a cluster need none of it
    from ray import serve
    from ray.serve.handle import DeploymentHandle

INLINE_LIMIT_BYTES = 1 << 20
"""Up to here a call travels inside the request (gRPC between replicas); above it by reference through the object
store, which is faster from about this size on and has no message limit."""

_ANSWER_S = 3.0
"""How long a cluster may take to answer before it counts as gone."""

GATEWAY_ENV = {
    # User code, router and Serve's own work share one event loop, so that a request crosses no thread between socket
    # and handle. (RAY_SERVE_THROUGHPUT_OPTIMIZED would do that too, but it also turns on direct ingress, with which
    # every replica that goes away lingers for half a minute.)
    "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
    "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "0",
    # Requests above INLINE_LIMIT_BYTES go by reference, but what a model answers is not known in advance: the
    # receiving end of the gateway's channels must take replies of any size.
    "RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH": str((1 << 31) - 1),
    # One series for news of deployments, and not two for every version that there ever was.
    "RAY_SERVE_COMPACT_LONG_POLL_METRIC_TAGS": "1",
}
"""Environment of gateway replicas; read by Ray Serve when it is imported there."""


def raise_reply_limit() -> None:
    """Let replies of any size through this process's handles; must run before the first call of a handle.

    Relies on the module constant that Ray reads when it opens a channel to a replica.
    """
    from ray.serve._private.request_router import replica_wrapper

    replica_wrapper.RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH = (1 << 31) - 1


def find_cluster(address: str | None) -> str | None:
    """Where the cluster is that Ray would join: the one named, else the one it finds. None if nobody answers there.

    Ray waits for ever for a cluster that is gone, and one that died without a farewell leaves its address behind.
    Relies on how Ray looks for an address.
    """
    from ray._private.services import get_ray_address_from_environment

    try:
        found: str = get_ray_address_from_environment(address or "auto", None)
    except ConnectionError:
        return None
    host, _, port = found.rpartition(":")
    if "://" in found or not port.isdigit():
        return found
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_S).close()
    except OSError:
        return None
    return found


@contextmanager
def bare_head() -> Iterator[None]:
    """A cluster that is started meanwhile has no processes for its dashboard, its autoscaler and the logs of drivers.

    Each is a Python process, for which a start on two cores waits. Relies on the names of what starts them.
    """
    from ray._private import node, services

    def start_nothing(*_: Any, **__: Any) -> None:
        return None

    with ExitStack() as replaced:
        for owner, name, instead in (
            (services, "start_api_server", lambda *_, **__: ("", None)),
            (node.Node, "start_monitor", start_nothing),
            (node.Node, "start_log_monitor", start_nothing),
        ):
            replaced.callback(setattr, owner, name, getattr(owner, name))
            setattr(owner, name, instead)
        yield


def raylet_pid() -> int:
    """The process of the raylet that this process has started. Relies on how a node knows its processes."""
    from ray._private import ray_constants

    node: Any = ray._private.worker.global_worker.node
    pid: int = node.all_processes[ray_constants.PROCESS_TYPE_RAYLET][0].process.pid
    return pid


def clusters_here() -> list[str]:
    """The addresses of the Ray clusters that have their head on this machine. Looks through all its processes."""
    from ray._private.services import find_gcs_addresses

    find_gcs_addresses.cache_clear()  # type: ignore[attr-defined]  # Ray hangs it on the function
    return sorted(find_gcs_addresses())


def ask_once(app: str, method: str, timeout_s: float) -> Any:
    """What a method of an application's ingress deployment answers. Blocks, works from any thread, and keeps nothing.

    Relies on `_init`.
    """
    from ray import serve

    handle = serve.get_app_handle(app)
    if not handle.is_initialized:
        handle._init(_run_router_in_separate_loop=True)  # type: ignore[no-untyped-call]  # Ray leaves it untyped
    try:
        return getattr(handle, method).remote().result(timeout_s=timeout_s)
    finally:
        _forget_handles(app)
        handle.shutdown()
        _stop_listening(handle)
        _forget_replicas(app)


async def open_handle(app: str) -> DeploymentHandle[Any]:
    """A handle to an application's ingress deployment whose router runs on the calling event loop.

    No request crosses a thread on its way out. Must be called, and the handle used, on one running loop. Relies on
    `_init`.
    """
    from ray import serve

    # Looking an application up asks Serve's controller and blocks, which no loop may.
    handle = await asyncio.to_thread(serve.get_app_handle, app)
    if not handle.is_initialized:
        handle._init(_run_router_in_separate_loop=False)  # type: ignore[no-untyped-call]  # Ray leaves it untyped
    return handle


async def close_handle(app: str, handle: DeploymentHandle[Any]) -> None:
    """End what the router of an application's handles does in the background; who asks for a handle gets a new one.

    For an application that autoscales that is two tasks, which would tell Serve of a deployment that is gone once a
    second for ever.
    """
    _forget_handles(app)
    await handle.shutdown_async()
    _stop_listening(handle)
    _forget_replicas(app)


def _stop_listening(handle: Any) -> None:
    """Have nobody in this process listen for news of a closed handle's deployment.

    Serve has a router listen by itself until the listener that all routers of a loop share has heard of its deployment,
    which that one does only once: a second handle to the same deployment would listen for ever. And the shared one
    never leaves off: each of its polls would name every deployment that there ever was, and Serve's controller start a
    task for each. What comes for a deployment after nobody listens any more is dropped. Relies on both listeners.
    """
    from ray.serve._private.router import SharedRouterLongPollClient

    router = handle._router._asyncio_router
    router.long_poll_client.stop()
    shared = SharedRouterLongPollClient.get_or_create(router._controller_handle, router._event_loop)
    # On the loop of the shared listener, which alone may change what it listens for.
    shared.event_loop.call_soon_threadsafe(_sweep, shared, router)


class _Listeners(dict[Any, Any]):
    """What a listener calls with news; news that nobody wants any more are dropped."""

    def __missing__(self, key: Any) -> Any:
        return lambda news: None


def _sweep(shared: Any, closed: Any) -> None:
    """Have the shared listener listen only for deployments that have a router. A poll that is under way brings what it
    left out back, until the next sweep."""
    shared.routers[closed.deployment_id].discard(closed)
    client = shared.long_poll_client
    if not isinstance(client.key_listeners, _Listeners):
        client.key_listeners = _Listeners(client.key_listeners)
    for key in [key for key in list(client.snapshot_ids) if not shared.routers.get(key[1])]:
        client.snapshot_ids.pop(key, None)
        client.key_listeners.pop(key, None)


def _forget_replicas(app: str) -> None:
    """Have Ray forget the classes of an application's replicas.

    Serve makes a class for every deployment, which Ray loads into each process that calls one of its replicas, and
    keeps there for ever: a tenth of a megabyte for a version. One that is needed again is loaded again. Relies on the
    caches, and on the names of the classes.
    """
    from ray._private.worker import global_worker
    from ray._raylet import PythonFunctionDescriptor  # type: ignore[attr-defined]  # compiled
    from ray.actor import _ActorClassMethodMetadata

    manager, metadata = global_worker.function_actor_manager, _ActorClassMethodMetadata._cache
    for creation in [each for each in list(metadata) if each.class_name.startswith(f"ServeReplica:{app}:")]:
        methods = [
            PythonFunctionDescriptor(creation.module_name, method, creation.class_name)
            for method in metadata.pop(creation).methods
        ]
        manager._loaded_actor_classes.pop(creation.function_id, None)
        for function in (creation, *methods):
            manager._function_execution_info.pop(function.function_id, None)
            manager._num_task_executions.pop(function.function_id, None)


def _forget_handles(*apps: str) -> None:
    """Take the handles of these applications out of the cache that Serve keeps for its whole process.

    It would hand out closed routers again, and holds a hundred handles before it lets go of any, with a warning.
    Relies on the global client.
    """
    from ray.serve.context import _get_global_client

    client = _get_global_client(raise_if_no_controller_running=False)
    if client is not None:
        for key in [key for key, cached in list(client.handle_cache.items()) if cached.app_name in apps]:
            client.handle_cache.pop(key, None)


def inline(handle: DeploymentHandle[Any], method: str) -> DeploymentHandle[Any]:
    """The handle's method with arguments inside the request. Relies on `_by_reference`."""
    return handle.options(
        method_name=method, _by_reference=False, request_serialization="pickle", response_serialization="pickle"
    )


def by_reference(handle: DeploymentHandle[Any], method: str) -> DeploymentHandle[Any]:
    """The handle's method with arguments through the object store."""
    return handle.options(method_name=method, _by_reference=True)


def servable_runtime_env() -> dict[str, Any]:
    """The runtime environment for replicas of servable versions: this process's, without what is for gateways alone.

    Processes inherit environment variables from whoever creates their actor, the controller its from a gateway.
    Version replicas must not: with any variable of their own they fit no prestarted worker and come up a second later.
    Where Serve runs with direct ingress, its replicas would linger for half a minute when they are deleted, so that
    load balancers notice; nothing balances load to version replicas, and the variable is worth that second there.
    """
    from ray.serve._private.constants import RAY_SERVE_ENABLE_DIRECT_INGRESS

    environment = dict(ray.get_runtime_context().runtime_env)
    variables = {
        name: value for name, value in environment.pop("env_vars", {}).items() if name not in GATEWAY_ENV
    }
    if RAY_SERVE_ENABLE_DIRECT_INGRESS:
        variables["RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S"] = "0"
    return {**environment, "env_vars": variables} if variables else environment


def serve_is_running() -> bool | None:
    """Whether a Serve instance exists on this cluster; None when that cannot be told now.

    Relies on the name and namespace of Serve's controller actor.
    """
    from ray.serve._private.constants import SERVE_CONTROLLER_NAME, SERVE_NAMESPACE

    try:
        ray.get_actor(SERVE_CONTROLLER_NAME, namespace=SERVE_NAMESPACE)
    except ValueError:
        return False
    except ray.exceptions.RayError:
        return None
    return True


def deploy(targets: Sequence[serve.RunTarget]) -> None:
    """Deploy applications without waiting for them, and never start a Serve instance that is not there.

    `serve.run_many` starts Serve if there is none, which would bring back what a user has just shut down. Relies on
    the global client.
    """
    from ray import serve
    from ray.serve.context import _get_global_client

    _get_global_client(raise_if_no_controller_running=True)
    serve.run_many(
        targets, wait_for_ingress_deployment_creation=False, wait_for_applications_running=False
    )
    _forget_handles(*(target.name for target in targets))


def delete_app(app: str) -> None:
    """Order the removal of an application without waiting. Relies on the `_blocking` argument."""
    from ray import serve

    serve.delete(app, _blocking=False)


def cluster_identity() -> str:
    """A name of this cluster that no other cluster on the host has. Relies on the session name of the node."""
    node = ray._private.worker.global_worker.node
    return str(node.session_name) if node is not None else os.environ.get("RAY_SESSION_NAME", "unknown")


def versioned(deployment: serve.Deployment, version: str) -> serve.Deployment:
    """The deployment under a version of its code.

    Deployed again under the same one, replicas that run go on running, and only their number and limits follow what
    changed. Relies on the option, which Serve no longer promises.
    """
    return deployment.options(version=version, _internal=True)


def nodes() -> list[dict[str, float]]:
    """The resources of each node of the cluster, and of each kind of node that its autoscaler could add.

    Relies on the cluster configuration that an autoscaler reports.
    """
    from ray._private.state import state

    alive = [dict(node["Resources"]) for node in ray.nodes() if node["Alive"]]
    config = state.get_cluster_config()
    groups = config.node_group_configs if config is not None else ()
    return alive + [dict(group.resources) for group in groups if group.max_count != 0]


def node_id() -> str:
    """The node of the cluster that this process runs on; empty if it belongs to none."""
    return str(ray.get_runtime_context().get_node_id()) if ray.is_initialized() else ""


def max_ongoing_requests() -> int:
    """How many requests Serve lets this replica have under way at present. Relies on the deployment's configuration
    being in the replica's context."""
    from ray import serve

    limit: int = serve.get_replica_context()._deployment_config.max_ongoing_requests
    return limit


def shutdown_s() -> float:
    """How long Serve gives this replica to end by itself. Relies on the same."""
    from ray import serve

    limit: float = serve.get_replica_context()._deployment_config.graceful_shutdown_timeout_s
    return limit


def open_address() -> str | None:
    """The address at which other nodes reach this one, None where Ray encrypts what nodes tell each other, as a plain
    connection must not get around that. Relies on the name of the variable that Ray reads."""
    if os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true"):
        return None
    return str(ray.util.get_node_ip_address())


def put_state(key: str, value: bytes) -> None:
    """Keep bytes in the cluster's own key-value store: they outlive any actor and end with the cluster."""
    from ray.experimental.internal_kv import _internal_kv_put

    _internal_kv_put(key.encode(), value, overwrite=True, namespace=b"serving_app")


def get_state(key: str) -> bytes | None:
    """What `put_state` kept, or None."""
    from ray.experimental.internal_kv import _internal_kv_get

    value: Any = _internal_kv_get(key.encode(), namespace=b"serving_app")
    return None if value is None else bytes(value)


def list_state(prefix: str) -> list[str]:
    """The keys under which `put_state` keeps something that begin so."""
    from ray.experimental.internal_kv import _internal_kv_list

    return [key.decode() for key in _internal_kv_list(prefix.encode(), namespace=b"serving_app")]


def delete_state(key: str) -> None:
    """Forget what `put_state` kept."""
    from ray.experimental.internal_kv import _internal_kv_del

    _internal_kv_del(key.encode(), namespace=b"serving_app")
