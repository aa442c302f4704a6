"""What users changed at run time outlives the cluster, where `state_uri` says so."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from benchmarks.ports import free_port
from tests.cluster.commands import BIN, kill_processes, processes, running, wait_for_answer
from tests.cluster.waiting import PATIENCE_S, wait_for
from tests.zoo import Zoo

pytestmark = pytest.mark.cluster

MODEL = "half_plus_two"


def set_label(model: str, label: str, version: int, folder: Path) -> None:
    """By the command, on the cluster whose start `up` told of in the file `output`; others may run on this machine."""
    address = re.search(r"started a Ray cluster at (\S+)", (folder / "output").read_text())
    assert address
    done = subprocess.run(
        [str(BIN / "serving-app"), "labels", model, "set", label, str(version)], capture_output=True, text=True,
        cwd=folder, timeout=PATIENCE_S, env={**os.environ, "RAY_ADDRESS": address[1]},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_a_label_outlives_the_cluster(folder: Path, zoo: Zoo) -> None:
    """A cluster that is killed as a whole comes back with the label that was set on the one before. `serving-app up`
    starts all that it needs, and Ctrl-C ends all of it."""
    port = free_port()
    (folder / "app.yaml").write_text(
        f"models: {{{MODEL}: {{base_path: {zoo.base(MODEL)}, version_policy: all}}}}\nstate_uri: {folder}/state\n"
        f"gateway: {{rest_port: {port}, grpc_port: {free_port()}}}\n"
    )
    up = [str(BIN / "serving-app"), "up", "app.yaml", "--http-port", "0", "--address", "local"]
    with (folder / "output").open("w") as output:
        first = subprocess.Popen(up, cwd=folder, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        wait_for_answer(port, f"{MODEL}/versions/1")
        set_label(MODEL, "stable", 1, folder)
        assert wait_for_answer(port, f"{MODEL}/labels/stable") == 1
    finally:
        kill_processes(folder)
        first.wait()
    wait_for("the whole cluster to be dead", lambda: not processes(folder))
    with running(folder, up):
        assert wait_for_answer(port, f"{MODEL}/labels/stable") == 1
    wait_for("all processes to end", lambda: not processes(folder))
