"""A machine on which a Ray cluster runs: for what readers of the pages and notebooks do."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.cluster.commands import kill_processes, workers

_HEAD = """
import logging, sys, ray
patient = {"worker_register_timeout_seconds": 240, "memory_monitor_refresh_ms": 0}
ray.init(address="local", num_cpus=8, include_dashboard=False, log_to_driver=False, logging_level=logging.WARNING,
         _temp_dir=sys.argv[1], _system_config=patient)
print(ray.get_runtime_context().gcs_address, flush=True)
sys.stdin.read()
ray.shutdown()
"""

_TRIES = 3
"""Ray gives itself half a minute to start, which a busy machine may exceed."""


class Machine(NamedTuple):
    """Where a reader sits: the environment of the terminal, and the folder of the Ray cluster that runs there."""

    environment: Mapping[str, str]
    cluster: Path


@contextmanager
def machine_with_ray(programs: Sequence[str] = ()) -> Iterator[Machine]:
    """A machine on which a Ray cluster runs, with nothing on it.

    `programs` are folders of commands that come first.
    """
    path = [*programs, str(Path(sys.executable).parent), os.environ["PATH"]]
    # With an address of its own, Ray asks who is there: the token is what `~/.ray/auth_token` holds for readers.
    # Nothing else is prepared, whatever tests before these have set.
    variables = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    variables |= {"PATH": os.pathsep.join(path), "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    for _ in range(_TRIES):
        with _cluster(variables) as (address, folder):
            if address:
                assert not workers(folder)
                yield Machine({**variables, "RAY_ADDRESS": address}, folder)
                return
    raise AssertionError("Ray did not start")


@contextmanager
def _cluster(variables: Mapping[str, str]) -> Iterator[tuple[str, Path]]:
    """A Ray cluster's address, empty if it did not start in time, and its folder."""
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # Ray's sockets lie below it, and names must be short
    head = subprocess.Popen(
        [sys.executable, "-c", _HEAD, str(folder)], env=variables, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        text=True, cwd=folder,
    )  # fmt: skip
    assert head.stdin is not None
    assert head.stdout is not None
    try:
        yield head.stdout.readline().strip(), folder
    finally:
        head.stdin.close()
        head.wait()
        head.stdout.close()
        kill_processes(folder)
        shutil.rmtree(folder, ignore_errors=True)
