"""However an app ends, nothing of it is left. That nothing is left on a cluster that stays, tests/docs shows."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from benchmarks.ports import free_port
from tests.cluster.commands import BIN, processes, running, wait_for_answer, workers
from tests.cluster.waiting import wait_for
from tests.zoo import Zoo

pytestmark = pytest.mark.cluster

QUICKSTART = Path(__file__).parents[2] / "cluster_configs" / "quickstart.yaml"


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
