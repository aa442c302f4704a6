"""What a model asks of the cluster, and how many replicas it has."""

from __future__ import annotations

import numpy as np
import pytest
import ray

from serving_app import connect
from serving_app.core.names import servable_app
from serving_app.core.servable import ServableId
from serving_app.serve.controller import find_controller
from tests.cluster.asking import steadily
from tests.cluster.serving import Serving
from tests.cluster.waiting import wait_for
from tests.zoo import Zoo

pytestmark = pytest.mark.cluster


def taken() -> dict[str, float]:
    """How much of each resource of the cluster is reserved."""
    total, free = ray.cluster_resources(), ray.available_resources()
    return {name: round(total[name] - free.get(name, 0), 3) for name in ("CPU", "GPU", "memory")}


def test_resources(app: Serving, zoo: Zoo) -> None:
    """Replicas reserve the CPUs, the memory and the part of a GPU that the model asks for; TensorFlow gets that part
    of the GPU's memory, less what CUDA itself needs.
    """
    model = {
        "base_path": zoo.base("half_plus_two"), "replicas": 2, "num_cpus": 0.5, "num_gpus": 0.5, "memory": "100MB"
    }
    app.deploy({"sized": model})
    app.wait_for_version("sized", 2)
    # Two replicas, and a gateway, which takes a tenth of a CPU.
    wanted = {"CPU": 2 * 0.5 + 0.1, "GPU": 2 * 0.5, "memory": 2 * 100_000_000}
    wait_for(f"{wanted} to be reserved", lambda: taken() == pytest.approx(wanted))
    for name in app.replicas("sized", 2):
        replica = ray.get_actor(name, namespace="serve")
        assert len(ray.get(replica.__ray_call__.remote(lambda _self: ray.get_gpu_ids()))) == 1
    sized = servable_app(app.name, ServableId("sized", 2))
    load = ray.get(find_controller(app.name).assignment.remote(sized)).load
    assert load.gpu_memory_fraction == pytest.approx(0.45)
    assert not load.gpu_allow_growth


def test_autoscaling(app: Serving, zoo: Zoo) -> None:
    """A model in an autoscaling range gets more replicas under load and gives them back afterwards."""
    scaling = {
        "min_replicas": 1, "max_replicas": 2, "target_ongoing_requests": 1, "upscale_delay_s": 0.5,
        "downscale_delay_s": 1.0,
    }
    app.deploy({"slow": {"base_path": zoo.base("slow"), "autoscaling": scaling}})
    app.wait_for_version("slow", 1)
    assert len(app.replicas("slow", 1)) == 1
    model = app.clients.enter_context(connect(app.name)).model("slow")

    def ask() -> int:
        assert model.predict(steps=np.int32(2000))["y"] == 128
        return 1

    with steadily({f"asker {number}": ask for number in range(6)}) as load:
        wait_for("two replicas", lambda: len(app.replicas("slow", 1)) == 2)
    load.assert_nothing_failed()
    wait_for("one replica again", lambda: len(app.replicas("slow", 1)) == 1)
