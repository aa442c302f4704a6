"""One real Ray cluster for all tests of this folder."""

from __future__ import annotations

import gc
import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
import ray
from ray import serve
from ray.serve.config import HTTPOptions

from benchmarks.ports import free_port
from serving_app.cli.warden import children
from tests.cluster.serving import Serving, kill, serving
from tests.cluster.waiting import PATIENCE_S
from tests.zoo import Zoo

_PATIENT = {
    "worker_register_timeout_seconds": int(PATIENCE_S),
    "memory_monitor_refresh_ms": 0,  # which would kill replicas for what others on this machine take
}
"""Settings of Ray for a machine that is slow and busy with other things."""


def start_ray(folder: str) -> None:
    """A cluster of this process. Ray gives itself half a minute to start, which a busy machine may exceed."""
    for is_last in (False, False, True):
        if has_started(folder, is_last):
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # of processes that nobody waits for
            gc.collect()


def has_started(folder: str, is_last: bool) -> bool:
    """Whether Ray has started; if it took too long, nothing is left, or that is raised if this was the last time."""
    before = set(children(os.getpid()))
    try:
        ray.init(
            address="local", num_cpus=8, num_gpus=4, include_dashboard=False, log_to_driver=False,
            logging_level=logging.WARNING, _temp_dir=folder, _system_config=_PATIENT,
        )
    except Exception as error:  # Ray has no other class for it
        if is_last or "timed out during startup" not in str(error):
            raise
        for pid in set(children(os.getpid())) - before:
            with suppress(ProcessLookupError):
                kill(pid)
        return False
    return True


@pytest.fixture(scope="session")
def door_port() -> Iterator[int]:
    """The port of Serve's HTTP door, on a cluster that lives as long as the tests. GPUs are a number here, no devices.
    """
    port = free_port()
    # Ray's sockets lie below its folder, and their names must be short.
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
    start_ray(folder)
    try:
        serve.start(http_options=HTTPOptions(port=port))
        yield port
        serve.shutdown()
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def new_serving(door_port: int, request: pytest.FixtureRequest) -> Iterator[Callable[..., Serving]]:
    """Makes serving apps that are taken away at the end of the test."""
    with ExitStack() as apps:

        def make(suffix: str = "") -> Serving:
            name = request.node.originalname.removeprefix("test_")[:40] + suffix
            return apps.enter_context(serving(name, door_port))

        yield make


@pytest.fixture
def app(new_serving: Callable[..., Serving]) -> Serving:
    """One serving app, not deployed yet."""
    return new_serving()


@pytest.fixture
def base(tmp_path: Path, zoo: Zoo) -> Path:
    """A base path that holds version 1 of half_plus_two."""
    path = tmp_path / "half_plus_two"
    shutil.copytree(zoo.path("half_plus_two", 1), path / "1")
    return path
