"""One real Ray cluster for all tests of this folder."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import ray
from ray import serve
from ray.serve.config import HTTPOptions

from benchmarks.ports import free_port
from tests.cluster.serving import Serving, serving
from tests.zoo import Zoo


@pytest.fixture(scope="session")
def door_port() -> Iterator[int]:
    """The port of Serve's HTTP door, on a cluster that lives as long as the tests. GPUs are a number here, no devices.
    """
    port = free_port()
    # Ray's sockets lie below its folder, and their names must be short.
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
    ray.init(
        address="local", num_cpus=8, num_gpus=4, include_dashboard=False, log_to_driver=False,
        logging_level=logging.WARNING, _temp_dir=folder,
    )
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
