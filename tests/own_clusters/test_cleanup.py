"""However an app ends, nothing of it is left."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from benchmarks.ports import free_port
from tests.cluster.commands import BIN, processes, running, wait_for_answer, workers
from tests.cluster.waiting import wait_for
from tests.zoo import Zoo

pytestmark = pytest.mark.cluster

QUICKSTART = Path(__file__).parents[2] / "cluster_configs" / "quickstart.yaml"

CLUSTER = """
import sys
import ray
from ray import serve
ray.init(address="local", include_dashboard=False, log_to_driver=False)
print(ray.get_runtime_context().gcs_address, flush=True)
sys.stdin.read()
"""


def test_serve_run_without_a_cluster(folder: Path, zoo: Zoo) -> None:
    """`serve run` of the quickstart's configuration starts all it needs, and Ctrl-C ends all of it."""
    config = yaml.safe_load(QUICKSTART.read_text())
    port = free_port()
    config["http_options"] = {"port": free_port()}
    arguments = config["applications"][0]["args"]
    arguments["gateway"] = {"rest_port": port, "grpc_port": free_port()}
    arguments["models"] = {name: zoo.base("half_plus_two") for name in arguments["models"]}
    (folder / "quickstart.yaml").write_text(yaml.safe_dump(config))
    with running(folder, [str(BIN / "serve"), "run", "quickstart.yaml"], RAY_ADDRESS="local"):
        assert {wait_for_answer(port, name) for name in arguments["models"]} == {2}
        assert any("half_plus_two@2" in title for title in workers(folder))
    wait_for("all processes to end", lambda: not processes(folder))


def test_on_a_cluster_that_stays(folder: Path, zoo: Zoo) -> None:
    """On a cluster that runs already, Ctrl-C of `serve run` and of `serving-app up` leaves no actor behind."""
    cluster = subprocess.Popen(
        [sys.executable, "-c", CLUSTER], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with cluster:
        assert cluster.stdout is not None
        address = cluster.stdout.readline().strip()
        assert not workers(folder)
        model, ports = zoo.base("half_plus_two"), [free_port(), free_port(), free_port()]
        serve_run = [
            str(BIN / "serve"), "run", "--address", address, "serving_app:app", "model_name=half_plus_two",
            f"model_base_path={model}", f"rest_port={ports[0]}", f"grpc_port={ports[1]}",
        ]
        up = [
            str(BIN / "serving-app"), "up", "--address", address, "--model", f"half_plus_two={model}",
            "--rest-port", str(ports[0]), "--grpc-port", str(ports[1]), "--http-port", str(ports[2]),
        ]
        for command in (up, serve_run):
            # Ray wants this said of clusters that it does not find by itself.
            with running(folder, command, RAY_AUTH_MODE="token"):
                assert wait_for_answer(ports[0], "half_plus_two") == 2
                assert any("half_plus_two@2" in title for title in workers(folder))
            wait_for("all actors to end", lambda: not workers(folder))
        assert not workers(folder)
        cluster.stdin.close()
    wait_for("all processes to end", lambda: not processes(folder))
