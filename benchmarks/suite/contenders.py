"""Who is measured: how each server is started with one model, and the doors at which it is asked."""

from __future__ import annotations

import json
import os
import shutil
import sys
import sysconfig
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from benchmarks.suite.environments import PEERS, python_of
from benchmarks.suite.works import ROOT, Work
from serving_app.config import ModelConfig

MAX_BATCH = 128


@dataclass(frozen=True)
class Door:
    """One way to ask a server: `port` is `http` or `grpc`, `form` how the request is written, `answers` how answers
    are read. `setup` tells apart doors of one protocol."""

    setup: str
    protocol: str
    path: str
    form: str
    answers: str
    model: str = "model"

    @property
    def port(self) -> str:
        """Which of its server's ports it is."""
        return "http" if self.protocol == "rest" else "grpc"


@dataclass(frozen=True)
class Place:
    """What a server is started with: its work, its ports by name, and a folder of its own."""

    work: Work
    ports: Mapping[str, int]
    folder: Path
    home: Path
    """The folder of the whole suite, with the environments."""


@dataclass(frozen=True)
class Contender:
    """A server. `command` makes the command line and may raise Failed; `works` are those that it is asked, None
    meaning all."""

    name: str
    command: Callable[[Place], list[str]]
    doors: Callable[[Work], tuple[Door, ...]]
    works: frozenset[str] | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    cwd: Path = ROOT

    def takes(self, work: Work) -> bool:
        """Whether it is asked this work."""
        return self.works is None or work.name in self.works


COMMON = frozenset({"half_plus_two", "image_mean", "wide", "text"})
"""What all peers are asked: no bytes that are no text, which JSON carries in another way in each of them."""
ARITHMETIC = frozenset({"half_plus_two", "image_mean"})
"""What the bare servers compute without a model."""


def _peer(
    name: str, key: str, doors: Callable[[Work], tuple[Door, ...]], environment: Mapping[str, str] | None = None
) -> Contender:
    def command(place: Place) -> list[str]:
        python = python_of(key, place.home)
        return [
            str(python), str(PEERS / f"{key}_server.py"), "--model", str(place.work.base_path / "1"),
            "--folder", str(place.folder), *_ports(place),
        ]  # fmt: skip

    return Contender(name, command, doors, COMMON, environment or {}, PEERS)


def _ports(place: Place) -> list[str]:
    return [word for name, port in place.ports.items() for word in (f"--{name}-port", str(port))]


def _own(module: str) -> Callable[[Place], list[str]]:
    """A server of the suite's own, in the environment that the suite runs in."""

    def command(place: Place) -> list[str]:
        return [
            sys.executable, "-m", f"benchmarks.servers.{module}", "--model", str(place.work.base_path / "1"),
            "--folder", str(place.folder), *_ports(place),
        ]  # fmt: skip

    return command


def _json_at(path: str) -> Callable[[Work], tuple[Door, ...]]:
    return lambda work: (Door("", "rest", path, "json", "json"),)


def _open_inference(work: Work) -> tuple[Door, ...]:
    return (
        Door("", "rest", "/v2/models/model/infer", "infer_json", "json"),
        Door("", "grpc", "/inference.GRPCInferenceService/ModelInfer", "infer", "infer"),
    )


def _bentoml(work: Work) -> tuple[Door, ...]:
    way = "columns" if len(work.inputs) > 1 else "texts" if work.name == "text" else "rows"
    return (Door("", "rest", f"/{way}", "json", "json"),)


PREDICT = "/tensorflow.serving.PredictionService/Predict"
OFF, ON, COLOCATED = "batching off", "batching on", "colocated"


def setups() -> dict[str, dict[str, object]]:
    """The settings of a model in each of our set-ups. Colocated is there when the placement is."""
    batching = {"max_batch_size": MAX_BATCH, "max_enqueued_batches": 1000}
    found: dict[str, dict[str, object]] = {OFF: {}, ON: {"batching": batching}}
    if has_colocated():
        found[OFF]["placement"] = found[ON]["placement"] = "dedicated"
        found[COLOCATED] = {"placement": "colocated", "batching": batching}
    return found


def has_colocated() -> bool:
    """Whether models can live in the gateways' processes."""
    return "placement" in ModelConfig.model_fields


def base_path_of(folder: Path, setup: str) -> Path:
    """Where the versions of the model of a set-up lie, below the folder of our server."""
    return folder / "models" / _model_name(setup)


def _model_name(setup: str) -> str:
    return setup.replace(" ", "_")


def _ours(place: Place, gateways: int | None = None) -> list[str]:
    models = {}
    for setup, settings in setups().items():
        base_path = base_path_of(place.folder, setup)
        shutil.copytree(place.work.base_path, base_path)
        # Versions come by a rename, whole: no need to wait until their files rest.
        models[_model_name(setup)] = {"base_path": str(base_path), "settle_s": 0, **settings}
    config = place.folder / "serving.yaml"
    # One gateway uses one core at most; the other servers use all that there are.
    config.write_text(json.dumps({"gateway": {"replicas": gateways or cpus()}, "models": models}))  # JSON is YAML
    return [
        str(Path(sys.executable).with_name("serving-app")), "up", str(config), "--address", "local",
        "--rest-port", str(place.ports["http"]), "--grpc-port", str(place.ports["grpc"]), "--http-port", "0",
    ]  # fmt: skip


def _our_doors(work: Work) -> tuple[Door, ...]:
    doors = []
    for setup in setups():
        model = _model_name(setup)
        doors.append(Door(setup, "rest", f"/v1/models/{model}:predict", "json", "json", model))
        doors.append(Door(setup, "grpc", PREDICT, "predict", "predict", model))
    return tuple(doors)


OURS = "serving_app"
OURS_AT_ONE = "serving_app at one gateway"
NAIVE = "plain Ray Serve"
KSERVE, LITSERVE, MLSERVER, BENTOML = "KServe", "LitServe", "MLServer", "BentoML"
PYTRITON = "PyTriton"
BARE_UVICORN, BARE_GRPC = "bare uvicorn", "bare grpc.aio"
PYTHON_PEERS = (KSERVE, LITSERVE, MLSERVER, BENTOML)

_OWN_LIBPYTHON = {
    "LD_LIBRARY_PATH": ":".join(filter(None, (sysconfig.get_config_var("LIBDIR"), os.environ.get("LD_LIBRARY_PATH"))))
}
"""Triton's Python process is linked to libpython, and fails with that of another Python than the environment's."""

_RAY = {"RAY_ADDRESS": "local", "RAY_SERVE_LOG_TO_STDERR": "0"}

CONTENDERS = {
    contender.name: contender
    for contender in (
        Contender(OURS, _ours, _our_doors, environment=_RAY),
        Contender(OURS_AT_ONE, partial(_ours, gateways=1), _our_doors, frozenset({"half_plus_two"}), _RAY),
        Contender(NAIVE, _own("naive"), _json_at("/naive"), frozenset({"half_plus_two"}), _RAY),
        _peer(KSERVE, "kserve", _json_at("/v1/models/model:predict")),
        _peer(LITSERVE, "litserve", _json_at("/predict")),
        _peer(MLSERVER, "mlserver", _open_inference),
        _peer(BENTOML, "bentoml", _bentoml),
        _peer(PYTRITON, "pytriton", _open_inference, _OWN_LIBPYTHON),
        Contender(BARE_UVICORN, _own("bare_uvicorn"), _json_at("/"), ARITHMETIC),
        Contender(
            BARE_GRPC, _own("bare_grpc"), lambda work: (Door("", "grpc", PREDICT, "predict", "predict"),), ARITHMETIC
        ),
    )
}


def cpus() -> int:
    """The cores that there are for all of it."""
    return len(os.sched_getaffinity(0))
