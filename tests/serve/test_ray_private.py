"""Ray still has what we rely on though it is not promised: where this fails, look at serving_app/ray_private.py."""

from __future__ import annotations

import ast
import asyncio
import dataclasses
import inspect
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
import ray._private.worker
from ray import serve
from ray._private import grpc_utils, ray_constants, services
from ray._private import node as ray_node
from ray._private.function_manager import FunctionActorManager
from ray._raylet import PythonFunctionDescriptor
from ray.actor import _ActorClassMethodMetadata
from ray.experimental import internal_kv
from ray.serve import context
from ray.serve._private import constants, handle_options, long_poll
from ray.serve._private.client import ServeControllerClient
from ray.serve._private.common import DeploymentID
from ray.serve._private.config import DeploymentConfig
from ray.serve._private.replica import Replica
from ray.serve._private.request_router import replica_wrapper
from ray.serve._private.router import SharedRouterLongPollClient
from ray.serve.handle import DeploymentHandle

import serving_app
from serving_app import ray_private
from tests.stepping import turns


def takes(function: Any, *names: str) -> bool:
    """Whether a function can be called with these keyword arguments."""
    return set(names) <= inspect.signature(function).parameters.keys()


def test_handles_take_the_options_that_carry_calls() -> None:
    """Calls go inside the request or by reference, as a handle's options say."""
    assert takes(
        DeploymentHandle.options, "method_name", "_by_reference", "request_serialization", "response_serialization"
    )
    options = handle_options.DynamicHandleOptions().copy_and_update(method_name="m", _by_reference=False)
    assert (options.method_name, options._by_reference) == ("m", False)


@pytest.mark.parametrize("separate", [True, False])
def test_the_routers_loop_can_be_chosen(separate: bool) -> None:
    """A handle can be initialised so that its router runs on the calling loop, or on one of its own."""
    assert callable(DeploymentHandle._init)
    assert isinstance(inspect.getattr_static(DeploymentHandle, "is_initialized"), property)
    options = handle_options.InitHandleOptions.create(_run_router_in_separate_loop=separate)
    assert options._run_router_in_separate_loop is separate


def test_clusters_of_this_machine_are_found() -> None:
    """A raylet that runs here is found by the address on its command line, whichever cluster Ray would join."""
    command = ["/anywhere/raylet/raylet", "-c", "input()", "--gcs-address=192.0.2.9:1"]
    with subprocess.Popen(command, executable=sys.executable, stdin=subprocess.PIPE) as raylet:
        while "192.0.2.9:1" not in ray_private.clusters_here():
            assert raylet.poll() is None  # for a moment a process that begins has no command line
        raylet.communicate(b"end\n")


def test_a_cluster_can_start_without_what_nobody_uses() -> None:
    """What starts the dashboard, the autoscaler and the log monitor of a head has the names that are replaced, and gets
    them back."""
    owners = ((services, "start_api_server"), (ray_node.Node, "start_monitor"), (ray_node.Node, "start_log_monitor"))
    before = [getattr(owner, name) for owner, name in owners]
    with ray_private.bare_head():
        assert services.start_api_server(include_dashboard=False) == ("", None)
        assert all(getattr(owner, name) is not old for (owner, name), old in zip(owners, before, strict=True))
    assert [getattr(owner, name) for owner, name in owners] == before


def test_a_handle_can_be_closed() -> None:
    """Closing a handle ends its router, and takes it out of the cache of handles that Serve keeps."""

    class Handle:
        def __init__(self, app_name: str) -> None:
            self.app_name = app_name
            self.closed = False

        async def shutdown_async(self) -> None:
            self.closed = True

    stopped: list[Handle] = []

    assert takes(DeploymentHandle.shutdown_async, "self")
    assert isinstance(inspect.getattr_static(DeploymentHandle, "app_name"), property)
    assert "self.handle_cache[cache_key] = handle" in inspect.getsource(ServeControllerClient.get_handle)
    mine, other = Handle("app:m@1"), Handle("app:m@2")
    client = SimpleNamespace(handle_cache={("Servable", each.app_name, False): each for each in (mine, other)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(context, "_get_global_client", lambda **_: client)
        patch.setattr(ray_private, "_stop_listening", stopped.append)
        asyncio.run(ray_private.close_handle("app:m@1", mine))  # type: ignore[arg-type]
    assert list(client.handle_cache.values()) == [other]
    assert (mine.closed, other.closed, stopped) == (True, False, [mine])


class Host:
    """What a listener polls. Nothing is ever news."""

    def __init__(self) -> None:
        self.polled: list[set[Any]] = []
        self.listen_for_change = SimpleNamespace(remote=self._poll)

    def _poll(self, known: dict[Any, int]) -> Any:
        self.polled.append(set(known))
        return SimpleNamespace(_on_completed=lambda callback: None)


def test_nobody_listens_for_a_deployment_that_was_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The router's own listener ends, the shared one asks only for deployments with a router, and news of another one
    that come late are dropped and forgotten. A deployment that comes back is asked for anew."""
    monkeypatch.setattr(long_poll.metrics, "Histogram", lambda *_, **__: SimpleNamespace(observe=lambda *_, **__: None))
    monkeypatch.setattr(ray, "get_runtime_context", lambda: SimpleNamespace(get_worker_id=lambda: "worker"))
    host = Host()
    ids = [DeploymentID(name="Servable", app_name=f"app:m@{version}") for version in (1, 2)]

    class Router:
        def __init__(self, deployment_id: DeploymentID) -> None:
            self.deployment_id = deployment_id
            self.long_poll_client = SimpleNamespace(stopped=False, stop=self._stop)
            self._controller_handle, self._event_loop = host, asyncio.get_running_loop()
            self.told: list[Any] = []

        def _stop(self) -> None:
            self.long_poll_client.stopped = True

        def update_deployment_targets(self, news: Any) -> None:
            self.told.append(news)

    async def scenario() -> None:
        shared = SharedRouterLongPollClient.get_or_create(host, asyncio.get_running_loop())
        client = shared.long_poll_client
        first, second = (Router(each) for each in ids)
        for router in (first, second):
            shared.register(router)  # type: ignore[arg-type]
        await turns()
        assert {key[1] for key in client.snapshot_ids} == set(ids)

        ray_private._stop_listening(SimpleNamespace(_router=SimpleNamespace(_asyncio_router=first)))  # type: ignore[arg-type]
        await turns()
        assert (first.long_poll_client.stopped, second.long_poll_client.stopped) == (True, False)
        assert {key[1] for key in client.snapshot_ids} == {ids[1]}

        targets = long_poll.LongPollNamespace.DEPLOYMENT_TARGETS
        client._process_update({(targets, each): long_poll.UpdatedObject(each, 7, 0) for each in ids})
        await turns()
        assert (first.told, second.told) == ([], [ids[1]])
        client._poll_next()
        assert {key[1] for key in host.polled[-1]} == set(ids)  # it was under way; the next sweep takes it out
        ray_private._sweep(shared, first)
        assert {key[1] for key in client.snapshot_ids} == {ids[1]}

        shared.register(first)  # type: ignore[arg-type]
        await turns()
        assert [client.snapshot_ids[key] for key in client.snapshot_ids if key[1] == ids[0]] == [-1, -1]

    asyncio.run(scenario())
    SharedRouterLongPollClient.get_or_create.cache_clear()  # type: ignore[attr-defined]  # it holds the loop


def test_classes_of_replicas_are_forgotten() -> None:
    """The class that Serve makes for an application's deployment goes from every cache of Ray's, and no other does."""
    worker: Any = SimpleNamespace(load_code_from_local=False)
    worker.function_actor_manager = manager = FunctionActorManager(worker)
    made = {}
    for app in ("app:m@1", "app:m@11"):
        name = DeploymentID(name="Servable", app_name=app).to_replica_actor_class_name()
        kind = type(name, (), {"__init__": lambda self: None, "handle_request": lambda self: None})
        creation = PythonFunctionDescriptor(kind.__module__, "__init__", name, name.encode().hex())
        manager._load_actor_class_from_gcs = lambda *_, kind=kind: kind  # type: ignore[method-assign,misc]
        assert manager.load_actor_class(ray.JobID.from_int(1), creation) is kind
        made[app] = creation
        _ActorClassMethodMetadata.create(kind, creation)
    caches = (
        _ActorClassMethodMetadata._cache, manager._loaded_actor_classes, manager._function_execution_info,
        manager._num_task_executions,
    )  # fmt: skip
    full = [len(cache) for cache in caches]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ray._private.worker, "global_worker", worker)
        ray_private._forget_replicas("app:m@1")
    assert [before - len(cache) for before, cache in zip(full, caches, strict=True)] == [1, 1, 2, 2]
    assert made["app:m@11"] in _ActorClassMethodMetadata._cache
    _ActorClassMethodMetadata._cache.pop(made["app:m@11"])


def test_handles_of_deployed_applications_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Serve's cache lets go of the handles that deploying brought, and of no others."""
    cached = {("Servable", name, True): SimpleNamespace(app_name=name) for name in ("app:m@1", "app:m@2", "app")}
    monkeypatch.setattr(context, "_get_global_client", lambda **_: SimpleNamespace(handle_cache=cached))
    monkeypatch.setattr(serve, "run_many", lambda *_args, **_options: None)
    ray_private.deploy([serve.RunTarget(None, name=name) for name in ("app:m@1", "app:m@2")])  # type: ignore[arg-type]
    assert [name for _, name, _ in cached] == ["app"]
    assert takes(DeploymentHandle.shutdown, "self")


def test_a_handle_knows_whether_it_has_replicas() -> None:
    """One can wait until a handle knows its replicas."""
    assert takes(DeploymentHandle.running_replicas_populated, "self")


def test_the_limit_of_replies_is_read_when_a_channel_opens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Raising the limit sets the name that Ray's module reads, in a function, each time that it opens a channel."""
    name = "RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH"
    monkeypatch.setattr(replica_wrapper, name, getattr(replica_wrapper, name))
    ray_private.raise_reply_limit()
    assert getattr(replica_wrapper, name) == 2**31 - 1
    tree = ast.parse(inspect.getsource(replica_wrapper))
    read = [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id == name]
    functions = [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    assert read
    for line in read:
        assert any(function.lineno < line <= (function.end_lineno or 0) for function in functions), line


@pytest.mark.parametrize("name", [*ray_private.GATEWAY_ENV, "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S"])
def test_environment_variables_still_have_a_reader(name: str) -> None:
    """What is set in a replica's environment is a variable that Serve reads."""
    assert f'"{name}"' in inspect.getsource(constants)


def test_applications_are_deployed_and_deleted_without_waiting() -> None:
    """Deploying and deleting can be ordered without blocking, and without starting a Serve that is not there."""
    assert takes(serve.run_many, "wait_for_ingress_deployment_creation", "wait_for_applications_running")
    assert takes(serve.delete, "_blocking")
    assert takes(context._get_global_client, "raise_if_no_controller_running")


def test_serves_controller_has_a_name() -> None:
    """Whether Serve runs is seen by its controller's name and namespace."""
    assert constants.SERVE_CONTROLLER_NAME
    assert constants.SERVE_NAMESPACE
    assert isinstance(constants.RAY_SERVE_ENABLE_DIRECT_INGRESS, bool)


def test_a_cluster_has_a_session_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process on a cluster knows the session's name; one on none falls back to what it was told."""
    from ray._private.node import Node

    assert isinstance(inspect.getattr_static(Node, "session_name"), property)
    if not ray.is_initialized():
        assert ray._private.worker.global_worker.node is None
        monkeypatch.setenv("RAY_SESSION_NAME", "session_7")
        assert ray_private.cluster_identity() == "session_7"


def test_the_raylet_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node knows the processes that it has started by their kind, with the raylet's first."""
    assert takes(ray_node.Node.start_raylet, "plasma_directory")
    assert "self.all_processes[ray_constants.PROCESS_TYPE_RAYLET] = [process_info]" in inspect.getsource(ray_node.Node)
    info = SimpleNamespace(process=SimpleNamespace(pid=7))
    node = SimpleNamespace(all_processes={ray_constants.PROCESS_TYPE_RAYLET: [info]})
    monkeypatch.setattr(ray._private.worker.global_worker, "node", node)
    assert ray_private.raylet_pid() == 7


def test_the_clusters_store_keeps_bytes() -> None:
    """The key-value store takes a key, a value and a namespace."""
    assert takes(internal_kv._internal_kv_put, "key", "value", "overwrite", "namespace")
    assert takes(internal_kv._internal_kv_get, "key", "namespace")
    assert takes(internal_kv._internal_kv_del, "key", "namespace")
    assert takes(internal_kv._internal_kv_list, "prefix", "namespace")


def test_a_deployment_takes_a_version_of_its_code() -> None:
    """Serve replaces replicas whose version of the code differs, and takes the version that it is told."""
    assert takes(serve.Deployment.options, "version", "_internal")
    assert "deployment._version or get_random_string()" in inspect.getsource(ServeControllerClient)


def test_what_an_autoscaler_could_add_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes that are there count, and kinds of nodes that could come; those that are dead or allowed no more do not."""
    from ray._private.state import GlobalState, state
    from ray.core.generated import autoscaler_pb2

    assert takes(GlobalState.get_cluster_config)
    config = autoscaler_pb2.ClusterConfig()
    config.node_group_configs.add(resources={"CPU": 8, "GPU": 1}, max_count=4)
    config.node_group_configs.add(resources={"CPU": 64}, max_count=0)
    monkeypatch.setattr(ray, "nodes", lambda: [
        {"Alive": True, "Resources": {"CPU": 2.0, "memory": 1e9}}, {"Alive": False, "Resources": {"CPU": 4.0}},
    ])
    monkeypatch.setattr(state, "get_cluster_config", lambda: config)
    assert ray_private.nodes() == [{"CPU": 2.0, "memory": 1e9}, {"CPU": 8, "GPU": 1}]
    monkeypatch.setattr(state, "get_cluster_config", lambda: None)
    assert len(ray_private.nodes()) == 1


def test_a_replica_knows_its_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Serve tells a replica how many requests it may have under way and how long it may take to end, and tells it anew
    when that changes."""
    assert {"max_ongoing_requests", "graceful_shutdown_timeout_s"} <= DeploymentConfig.model_fields.keys()
    assert "_deployment_config" in {field.name for field in dataclasses.fields(context.ReplicaContext)}
    assert "_set_internal_replica_context" in inspect.getsource(Replica.reconfigure)
    config = SimpleNamespace(max_ongoing_requests=7, graceful_shutdown_timeout_s=8.0)
    monkeypatch.setattr("ray.serve.get_replica_context", lambda: SimpleNamespace(_deployment_config=config))
    assert (ray_private.max_ongoing_requests(), ray_private.shutdown_s()) == (7, 8.0)


def test_no_port_is_opened_where_ray_encrypts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable that turns Ray's TLS on is still the one that we look at."""
    assert "RAY_USE_TLS" in inspect.getsource(grpc_utils)
    monkeypatch.delenv("RAY_USE_TLS", raising=False)
    assert ray_private.open_address()
    for value in ("1", "true", "True"):
        monkeypatch.setenv("RAY_USE_TLS", value)
        assert ray_private.open_address() is None


def test_private_parts_of_ray_are_used_in_one_place() -> None:
    """No other module imports from Ray's private modules or reaches for its private names."""
    package = Path(serving_app.__file__).parent
    for path in package.rglob("*.py"):
        if path == package / "ray_private.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, (ast.Import, ast.ImportFrom)) else []
            if isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{name}" for name in names]
            for name in names:
                is_private = name.startswith("ray.") and any(part.startswith("_") for part in name.split("."))
                assert not is_private, f"{path}: {name}"
