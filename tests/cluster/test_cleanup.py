"""However an app ends, nothing of it is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray import serve

from tests.cluster.asking import QUESTION, Rest, version_of
from tests.cluster.serving import Serving, free_port
from tests.cluster.waiting import wait_for
from tests.zoo import Zoo

pytestmark = pytest.mark.cluster

BIN = Path(sys.executable).parent
QUICKSTART = Path(__file__).parents[2] / "cluster_configs" / "quickstart.yaml"

CLUSTER = """
import sys
import ray
from ray import serve
ray.init(address="local", include_dashboard=False, log_to_driver=False)
print(ray.get_runtime_context().gcs_address, flush=True)
sys.stdin.read()
"""


def processes(folder: Path) -> dict[int, str]:
    """The processes that were started in a folder, with their titles; Ray's own are among them, and its workers."""
    found = {}
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and Path(os.readlink(entry / "cwd")) == folder:
                found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
        except OSError:  # it has just ended
            continue
    return found


def workers(folder: Path) -> set[str]:
    """The titles of the processes there that are actors."""
    services = ("ray::IDLE", "ray::DashboardAgent", "ray::RuntimeEnvAgent")
    return {title for title in processes(folder).values() if title.startswith("ray::") and title not in services}


@contextmanager
def running(folder: Path, command: Sequence[str], **environment: str) -> Iterator[subprocess.Popen[Any]]:
    """A command in a folder, as from a terminal of its own. It is ended by Ctrl-C; what is left then is killed."""
    with (folder / "output").open("w") as output:
        process = subprocess.Popen(
            command, cwd=folder, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            env={**os.environ, **environment},
        )
    try:
        yield process
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(60) == 0
    except BaseException as error:
        error.add_note((folder / "output").read_text())
        raise
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Where a command runs that may start a cluster. What it leaves behind is killed."""
    yield tmp_path
    for pid in processes(tmp_path):
        os.kill(pid, signal.SIGKILL)


def wait_for_answer(port: int, model: str) -> int:
    """The version that answers, as soon as one does."""

    def look() -> Any:
        client = Rest(port)
        try:
            status, answer = client.request("POST", f"/v1/models/{model}:predict", {"instances": QUESTION})
        except OSError:
            return None
        finally:
            client.close()
        return answer["predictions"] if status == 200 else None

    return version_of(wait_for(f"an answer at port {port}", look, patience_s=120))


def test_delete(app: Serving, base: Path) -> None:
    """Deleting the application ends its gateway, its controller and its versions, also one that is being loaded."""
    app.deploy({"half_plus_two": str(base)})
    app.wait_for_version("half_plus_two", 1)
    pids = {*app.replicas().values(), *app.replicas("half_plus_two", 1).values(), app.controller_pid()}
    assert len(pids) == 3
    serve.delete(app.name)
    app.wait_until_gone()
    wait_for("its processes to end", lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))
    app.deploy({"half_plus_two": str(base)})
    wait_for("the version to be on its way", lambda: len(app.apps()) == 2)
    serve.delete(app.name)
    app.wait_until_gone()


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


def test_up_without_a_cluster(folder: Path, zoo: Zoo) -> None:
    """`serving-app up` starts all it needs, and Ctrl-C ends all of it."""
    port = free_port()
    command = [
        str(BIN / "serving-app"), "up", "--model", f"half_plus_two={zoo.base('half_plus_two')}",
        "--rest-port", str(port), "--grpc-port", str(free_port()), "--http-port", "0", "--address", "local",
    ]
    with running(folder, command):
        assert wait_for_answer(port, "half_plus_two") == 2
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
