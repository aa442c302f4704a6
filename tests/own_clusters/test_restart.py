"""What users changed and began at run time outlives the cluster, where `state_uri` says so."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from benchmarks.ports import free_port
from tests.cluster.commands import BIN, kill_processes, processes, running, wait_for_answer
from tests.cluster.waiting import PATIENCE_S, wait_for
from tests.zoo import Zoo

pytestmark = pytest.mark.cluster

MODEL = "half_plus_two"


def command(folder: Path, *arguments: str) -> str:
    """What a command says of the app, on the cluster whose start `up` told of in the file `output`: others may run on
    this machine."""
    address = re.search(r"started a Ray cluster at (\S+)", (folder / "output").read_text())
    assert address
    done = subprocess.run(
        [str(BIN / "serving-app"), *arguments], capture_output=True, text=True, cwd=folder,
        timeout=PATIENCE_S, env={**os.environ, "RAY_ADDRESS": address[1]},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def rollout(folder: Path, *arguments: str) -> Any:
    """What a command about a rollout says of it."""
    return json.loads(command(folder, "rollout", *arguments, "--json"))


def wait_until_paused(folder: Path, number: int) -> None:
    wait_for("the rollout to be paused", lambda: rollout(folder, "status", str(number))["phase"] == "paused")


def test_what_was_set_and_begun_outlives_the_cluster(folder: Path, zoo: Zoo) -> None:
    """A cluster that is killed as a whole comes back with the label that was set on the one before, and with the
    rollout that had begun, where that was. `serving-app up` starts all that it needs, and Ctrl-C ends all of it."""
    port = free_port()
    (folder / "app.yaml").write_text(
        f"models: {{{MODEL}: {{base_path: {zoo.base(MODEL)}, version_policy: all}}}}\nstate_uri: {folder}/state\n"
        f"gateway: {{rest_port: {port}, grpc_port: {free_port()}}}\n"
    )
    up = [str(BIN / "serving-app"), "up", "app.yaml", "--http-port", "0", "--address", "local"]
    strategy = "{steps: [{pause_s: until_told}, 50], gates: [{measure: error_rate, max: 0.1}]}"
    with (folder / "output").open("w") as output:
        first = subprocess.Popen(up, cwd=folder, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        wait_for_answer(port, f"{MODEL}/versions/1")
        command(folder, "labels", MODEL, "set", "stable", "1")
        assert wait_for_answer(port, f"{MODEL}/labels/stable") == 1
        number = rollout(folder, "start", MODEL, "--to", "2", "--target", "stable", "--strategy", strategy)["id"]
        wait_until_paused(folder, number)
    finally:
        kill_processes(folder)
        first.wait()
    wait_for("the whole cluster to be dead", lambda: not processes(folder))
    with running(folder, up):
        assert wait_for_answer(port, f"{MODEL}/labels/stable") == 1
        wait_until_paused(folder, number)
        rollout(folder, "promote", str(number), "--full")
        assert wait_for_answer(port, f"{MODEL}/labels/stable") == 2
    wait_for("all processes to end", lambda: not processes(folder))
