"""`serving-app up` on a cluster where something is served already."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import ray
from ray import serve

from benchmarks.ports import free_port
from tests.cluster.asking import Rest
from tests.cluster.serving import Serving
from tests.cluster.waiting import PATIENCE_S, wait_for

pytestmark = pytest.mark.cluster


@contextmanager
def up(folder: Path, name: str, base: Path, *more: str) -> Iterator[subprocess.Popen[bytes]]:
    """The command, on the tests' cluster and with what it prints in the file `output`. Killed at the end."""
    command = [
        str(Path(sys.executable).parent / "serving-app"), "up", "--model", f"half_plus_two={base}", "--name", name,
        "--address", ray.get_runtime_context().gcs_address,
        "--rest-port", str(free_port()), "--grpc-port", str(free_port()),
        *more,
    ]
    with (folder / "output").open("w") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env={**os.environ, "RAY_AUTH_MODE": "token"},
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.fixture(autouse=True, scope="module")
def somebody(door_port: int) -> Iterator[None]:
    """An application of somebody else, for whose sake `up` leaves Serve running at its end."""
    serve.run(serve.deployment(lambda: None).bind(), name="somebody", route_prefix="/taken")
    yield
    serve.delete("somebody")


def test_what_runs_is_not_replaced(app: Serving, base: Path, tmp_path: Path) -> None:
    """Under a name that is taken `up` ends with a sentence, and what has the name serves on, also afterwards."""
    app.deploy({"mine": str(base)})
    app.wait_for_version("mine", 1)
    with up(tmp_path, app.name, base) as command:
        assert command.wait(PATIENCE_S) == 1
    said = (tmp_path / "output").read_text()
    assert f"serving-app: an application named {app.name!r} is on this Ray cluster already" in said
    assert "Traceback" not in said
    rest = Rest(app.rest_port)
    assert rest.predict("mine", {"instances": [1.0]}) == {"predictions": [2.5]}
    rest.close()
    assert set(app.view().models) == {"mine"}


def test_an_app_beside_others(door_port: int, base: Path, tmp_path: Path) -> None:
    """Under a name of its own `up` serves beside others, at a place of its own at Serve's HTTP door; deleted from
    elsewhere, it notices, and ends by itself."""
    with up(tmp_path, "beside", base) as command:
        rest = Rest(door_port, "/beside")
        wait_for("its announcement", lambda: "serving: " in (tmp_path / "output").read_text())
        assert rest.predict("half_plus_two", {"instances": [1.0]}) == {"predictions": [2.5]}
        rest.close()
        serve.delete("beside")
        assert command.wait(PATIENCE_S) == 0
    assert "stopped from elsewhere" in (tmp_path / "output").read_text()
    assert set(serve.status().applications) == {"somebody"}


def test_a_place_that_is_taken(base: Path, tmp_path: Path) -> None:
    """Where another application has the place at Serve's HTTP door, `up` says so in a sentence and leaves nothing."""
    with up(tmp_path, "taken", base) as command:
        assert command.wait(PATIENCE_S) == 1
    said = (tmp_path / "output").read_text()
    assert 'serving-app: Serve refuses the gateway: Prefix /taken is being used by application "somebody"' in said
    assert "Traceback" not in said
    assert set(serve.status().applications) == {"somebody"}


def test_ctrl_c_while_the_gateway_finds_no_room(base: Path, tmp_path: Path) -> None:
    """A gateway that cannot be placed does not keep `up` from ending at Ctrl-C."""
    config = tmp_path / "config.yaml"
    config.write_text("gateway: {num_cpus: 1000, drain_timeout_s: 0}\n")
    with up(tmp_path, "large", base, str(config)) as command:
        wait_for("its deployment", lambda: "large" in serve.status().applications)
        os.killpg(command.pid, signal.SIGINT)
        assert command.wait(PATIENCE_S) == 0
    assert set(serve.status().applications) == {"somebody"}
