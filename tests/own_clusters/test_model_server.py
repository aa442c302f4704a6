"""`serving-app model-server` as somebody runs it who has run TensorFlow Serving."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from benchmarks.ports import free_port
from tests.cluster.asking import QUESTION, Grpc, Rest, version_of
from tests.cluster.commands import BIN, kill_processes, processes
from tests.cluster.waiting import PATIENCE_S, wait_for
from tests.zoo import Zoo

pytestmark = pytest.mark.cluster


class Server:
    """A server in a folder of its own, with what it prints in the files `out` and `err`."""

    def __init__(self, folder: Path, base_path: Path, *flags: str) -> None:
        self.folder = folder
        self.grpc_port, self.rest_port = free_port(), free_port()
        command = [
            str(BIN / "serving-app"), "model-server", f"--port={self.grpc_port}", f"--rest_api_port={self.rest_port}",
            "--model_name=half_plus_two", f"--model_base_path={base_path}", *flags,
        ]
        folder.mkdir()
        with (folder / "out").open("w") as out, (folder / "err").open("w") as err:
            self.process = subprocess.Popen(
                command, cwd=folder, stdout=out, stderr=err, env={**os.environ, "RAY_ADDRESS": "127.0.0.1:1"}
            )

    def said(self, file: str) -> str:
        return (self.folder / file).read_text()

    def wait_until_it_says(self, text: str) -> None:
        wait_for(text, lambda: text in self.said("err") or self.process.poll() is not None)
        assert text in self.said("err"), self.said("out") + self.said("err")

    def listens(self) -> bool:
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", self.grpc_port)) == 0

    def wait_until_nothing_is_left(self) -> None:
        wait_for("all of its processes to end", lambda: not processes(self.folder))
        # A process that ends has no folder any more a moment before its sockets are closed.
        wait_for("its ports to be closed", lambda: not self.listens())


@contextmanager
def server(folder: Path, base_path: Path, *flags: str) -> Iterator[Server]:
    """A server that is killed at the end, with all that it left."""
    started = Server(folder, base_path, *flags)
    try:
        yield started
    finally:
        started.process.kill()
        started.process.wait()
        kill_processes(folder)


def test_two_side_by_side(tmp_path: Path, zoo: Zoo) -> None:
    """Two servers on one machine know nothing of each other. One opens its ports when its model is loaded, says so as
    TensorFlow Serving does, answers its clients, and leaves nothing behind even if it is killed. The other waits with
    closed ports for a version, and ends with status 255 when that cannot be loaded."""
    empty = tmp_path / "empty"
    empty.mkdir()
    serves = server(tmp_path / "serves", Path(zoo.base("half_plus_two")))
    waits = server(tmp_path / "waits", empty, "--max_num_load_retries=1", "--load_retry_interval_micros=100000")
    with serves as first, waits as second:
        first.wait_until_it_says(f"Running gRPC ModelServer at 0.0.0.0:{first.grpc_port} ...")
        first.wait_until_it_says(f"Exporting HTTP/REST API at:localhost:{first.rest_port} ...")
        assert "Successfully loaded servable version {name: half_plus_two version: 2}" in first.said("err")
        grpc = Grpc(first.grpc_port)
        version, outputs = grpc.predict("half_plus_two", {"x": np.float32(QUESTION)})
        assert version == version_of(outputs["y"]) == 2
        grpc.close()
        rest = Rest(first.rest_port)
        assert version_of(rest.predict("half_plus_two", {"instances": QUESTION})["predictions"]) == 2
        rest.close()

        second.wait_until_it_says(f"No versions of servable half_plus_two found under base path {empty}.")
        assert not second.listens()
        (empty / "7").mkdir()
        (empty / "7" / "saved_model.pb").write_bytes(b"\x12\x00")  # a whole SavedModel, of one graph, which is empty
        assert second.process.wait(PATIENCE_S) == 255
        assert second.said("out").startswith(
            "Failed to start server. Error: UNKNOWN: 1 servable(s) did not become available: "
            "{{{name: half_plus_two version: 7} due to error: "
        )
        assert "Running" not in second.said("err")
        second.wait_until_nothing_is_left()

        first.process.kill()
        first.process.wait()
        first.wait_until_nothing_is_left()
