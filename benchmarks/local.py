"""A local Ray cluster for one benchmark, the models, and applications on it started the way a user would."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray import serve
from ray.serve.config import HTTPOptions

from benchmarks.ports import free_port

_PATIENCE_S = 240.0


def wait_for(what: str, is_so: Callable[[], bool], *, every: float = 0.02) -> float:
    """Wait until something is so; returns the seconds it took."""
    started = time.monotonic()
    while not is_so():
        if time.monotonic() - started > _PATIENCE_S:
            sys.exit(f"waited {_PATIENCE_S:.0f} s in vain for {what}")
        time.sleep(every)
    return time.monotonic() - started


@contextlib.contextmanager
def models() -> Iterator[Path]:
    """A directory with the demo's models: half_plus_two (1) and digits (1); more versions under `staged`."""
    home = Path(tempfile.mkdtemp(prefix="serving-app-bench-"))
    try:
        subprocess.run(
            [sys.executable, "-m", "serving_app.demo.models", str(home)], check=True, stdout=subprocess.DEVNULL
        )
        yield home / "ready"
    finally:
        shutil.rmtree(home, ignore_errors=True)


@dataclass
class Served:
    """A serving app under `serve run`, and where it listens."""

    rest_port: int
    grpc_port: int
    process: subprocess.Popen[bytes]

    def predict_url(self, model: str) -> str:
        """Where to POST a predict request."""
        return f"http://127.0.0.1:{self.rest_port}/v1/models/{model}:predict"

    def wait_until_answering(self, model: str, body: object) -> float:
        """Wait for the first right-looking answer; returns the seconds it took."""
        return wait_for(f"an answer of {model}", lambda: answers(self.predict_url(model), body))

    def stop(self) -> None:
        """What Ctrl-C does."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(timeout=_PATIENCE_S)


def answers(url: str, body: object) -> bool:
    """Whether a POST of this body is answered with 200."""
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


@dataclass
class Cluster:
    """A running cluster. `log` is where what applications print goes."""

    address: str
    door_port: int
    log: Any
    apps: list[Served]

    def serve_run(self, target: str, **arguments: object) -> Served:
        """`serve run TARGET key=value …` in a process of its own, on free ports."""
        rest_port, grpc_port = free_port(), free_port()
        pairs = [f"{key}={value}" for key, value in arguments.items()]
        command = [
            str(Path(sys.executable).with_name("serve")), "run", "--address", self.address, target, *pairs,
            f"rest_port={rest_port}", f"grpc_port={grpc_port}",
        ]  # fmt: skip
        served = Served(rest_port, grpc_port, subprocess.Popen(command, stdout=self.log, stderr=self.log))
        self.apps.append(served)
        return served

    def door_url(self, path: str) -> str:
        """A URL at Serve's own HTTP proxy."""
        return f"http://127.0.0.1:{self.door_port}{path}"

    def deploy_naive(self, version_path: Path, body: object) -> str:
        """Deploy the application after Ray's documentation; returns where to POST."""
        from benchmarks import naive

        serve.run(naive.build(str(version_path)), name="naive", route_prefix="/naive")
        url = self.door_url("/naive")
        wait_for("the naive application", lambda: answers(url, body))
        return url


@contextlib.contextmanager
def cluster(num_cpus: int = 8) -> Iterator[Cluster]:
    """A Ray cluster on this machine with Serve's door on a free port; everything on it ends with the block."""
    os.environ.setdefault("RAY_SERVE_LOG_TO_STDERR", "0")
    door_port = free_port()
    context = ray.init(
        address="local", num_cpus=num_cpus, include_dashboard=False, log_to_driver=False, logging_level="ERROR"
    )
    with tempfile.TemporaryFile() as log:
        running = Cluster(context.address_info["gcs_address"], door_port, log, [])
        try:
            serve.start(http_options=HTTPOptions(port=door_port))
            yield running
        finally:
            for app in running.apps:
                if app.process.poll() is None:
                    app.stop()
            ray.shutdown()
