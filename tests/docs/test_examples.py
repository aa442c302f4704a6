"""The examples of the pages, run as a reader would, on a real Ray cluster.

What a reader has under /models, here lies below the folder of the scenario, and the ports are free ones. Nothing else
is changed: the rules are in `Shell._localized`.
"""

from __future__ import annotations

import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from benchmarks.ports import free_port
from tests.cluster.commands import workers
from tests.cluster.waiting import PATIENCE_S, wait_for
from tests.conftest import Demo
from tests.docs.pages import ROOT, Command, Step, matches, scenarios
from tests.machine import Machine, machine_with_ray

pytestmark = pytest.mark.cluster

SCENARIOS = scenarios()

_SERVES = ("make serve", "serving-app up", "serving-app demo", "serve run")
"""Commands that go on until Ctrl-C."""


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine on which a Ray cluster runs, with nothing on it."""
    programs = tmp_path_factory.mktemp("programs")
    if shutil.which("curl") is None:
        stand_in = programs / "curl"
        stand_in.write_text(f"#!{sys.executable}\n" + (Path(__file__).parent / "curl.py").read_text(encoding="utf-8"))
        stand_in.chmod(0o755)
    with machine_with_ray([str(programs)]) as machine:
        yield machine


class Shell:
    """A reader's terminal: runs the steps of a scenario in a folder of its own."""

    def __init__(self, folder: Path, machine: Machine, models: Path) -> None:
        self._folder = folder
        self._environment = machine.environment
        self._cluster = machine.cluster
        self._rest, self._grpc, self._door = free_port(), free_port(), free_port()
        self._server: subprocess.Popen[str] | None = None
        self._others = workers(machine.cluster)  # such as Ray Data's, which stay for as long as the cluster does
        self._log = folder / "server.log"
        shutil.copytree(models, folder / ".demo")
        shutil.copytree(models / "ready", folder / "models")

    def take(self, step: Step) -> None:
        """Do what a step says, and check that what comes out is what the page says."""
        if step.file:
            (self._folder / step.file).write_text(self._localized(step.text), encoding="utf-8")
        for command in step.commands:
            line = self._localized(command.line)
            if command.line.startswith(_SERVES):
                self._serve(line, self._localized(command.output), step.where)
            else:
                self._run(Command(line, self._localized(command.output)), step.where)

    def stop(self) -> None:
        """Press Ctrl-C, and see that the server ends by itself and leaves no actor on the cluster."""
        if self._server is not None:
            assert workers(self._cluster) - self._others
            self._server.send_signal(signal.SIGINT)
            try:
                self._server.wait(PATIENCE_S)
            finally:
                self._server.kill()
            self._server = None
            wait_for("all of its actors to end", lambda: workers(self._cluster) <= self._others)

    def _localized(self, text: str) -> str:
        """The same text with this scenario's ports and folders."""
        ports = {"8501": self._rest, "8500": self._grpc, "8000": self._door}
        text = re.sub(r"\b(8501|8500|8000)\b", lambda match: str(ports[match[1]]), text)
        text = text.replace("/tmp/serving-app-demo", str(self._folder / ".demo"))
        text = re.sub(r"(?<![\w.])/models\b", str(self._folder / "models"), text)
        text = re.sub(r"\bcluster_configs/[\w.]+", lambda match: str(self._copy_cluster_config(match[0])), text)
        return text.replace("make serve", "serving-app demo")

    def _copy_cluster_config(self, name: str) -> Path:
        """A Serve config file with this scenario's ports and folders."""
        config = yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))
        for application in config["applications"]:
            application["args"]["gateway"] = {"rest_port": 8501, "grpc_port": 8500}
        copy = self._folder / Path(name).name
        copy.write_text(self._localized(yaml.safe_dump(config)), encoding="utf-8")
        return copy

    def _serve(self, line: str, output: str, where: str) -> None:
        """Start a server, and wait until it has printed what the page says; `serve run` says little, so it is asked."""
        self.stop()
        is_told = not line.startswith("serve run")
        if not is_told:
            # `serve run` cannot be told the port of Serve's door; who starts Serve beforehand can.
            self._run(Command(f"serve start --http-port {self._door}"), where)
            line += "" if line.endswith(".yaml") else f" rest_port={self._rest} grpc_port={self._grpc}"
        else:
            line += f" --rest-port {self._rest} --grpc-port {self._grpc} --http-port {self._door}"
        with self._log.open("w", encoding="utf-8") as log:
            self._server = subprocess.Popen(
                shlex.split(line.replace("\\\n", " ")), cwd=self._folder, env=self._environment, stdout=log,
                stderr=subprocess.STDOUT, text=True,
            )
        deadline = time.monotonic() + PATIENCE_S
        while not (matches(f"...{output.strip()}...", self._said()) and (is_told or self._is_ready())):
            assert self._server.poll() is None, f"{where}: the server ended\n{self._said()}"
            assert time.monotonic() < deadline, f"{where}: not ready, or not as told\n{self._said()}\nand not\n{output}"
            time.sleep(0.1)

    def _said(self) -> str:
        return self._log.read_text(encoding="utf-8")

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._rest}/healthz/ready", timeout=5.0):
                return True
        except (urllib.error.URLError, OSError):
            return False

    def _run(self, command: Command, where: str) -> None:
        """Run a command; what takes effect a little later, such as a new version, is asked for again."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            done = subprocess.run(
                ["bash", "-c", command.line], cwd=self._folder, env=self._environment, capture_output=True, text=True
            )
            said = f"{where}: {command.line}\n{done.stdout}{done.stderr}\nand not\n{command.output}"
            if done.returncode == 0 and (not command.output or matches(command.output, done.stdout)):
                return
            assert done.returncode == 0, said
            assert time.monotonic() < deadline, said
            time.sleep(0.1)


def test_there_are_scenarios() -> None:
    """The pages have examples that run."""
    assert len(SCENARIOS) >= 4


@pytest.mark.parametrize("name", SCENARIOS)
def test_examples_do_what_the_page_says(
    name: str, tmp_path: Path, machine: Machine, demo: Demo
) -> None:
    """Every example runs as it stands, in its order, and prints what the page shows. Whatever serves ends at Ctrl-C,
    and leaves nothing on a cluster that stays."""
    shell = Shell(tmp_path, machine, demo.folder)
    try:
        for step in SCENARIOS[name]:
            shell.take(step)
    finally:
        shell.stop()
