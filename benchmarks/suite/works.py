"""What is asked of every server: a model, one request to it in each of the protocols, and its right answer."""

from __future__ import annotations

import base64
import json
import pickle
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.load import open_inference
from serving_app.core.servable import ModelSpec
from serving_app.protocol.predict_proto import encode_predict_request

Array = np.ndarray[Any, Any]
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Work:
    """A model under `path`, and a request with its answer."""

    name: str
    base_path: Path
    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]

    @property
    def output(self) -> str:
        """The output that answers are checked by."""
        return next(iter(self.outputs))

    def request(self, form: str, model: str) -> bytes:
        """The request in one of the forms: `json` (TensorFlow Serving's), `infer_json`, `predict`, `infer`."""
        if form == "json":
            return encode_json(self.inputs)
        if form == "infer_json":
            return open_inference.encode_json(self.inputs)
        if form == "infer":
            return open_inference.encode_request(model, self.inputs)
        return encode_predict_request(ModelSpec(model), "", self.inputs)


def encode_json(inputs: Mapping[str, Array]) -> bytes:
    """By rows if there is one input, by columns if there are several, bytes that are no text in base64."""
    columns = {name: _values(array) for name, array in inputs.items()}
    if len(columns) == 1:
        (rows,) = columns.values()
        return json.dumps({"instances": rows}).encode()
    return json.dumps({"inputs": columns}).encode()


def _values(array: Array) -> Any:
    if array.dtype != object:
        return array.tolist()
    try:
        return [each.decode() for each in array]
    except UnicodeDecodeError:
        return [{"b64": base64.b64encode(each).decode()} for each in array]


def make(folder: Path, names: Sequence[str]) -> dict[str, Work]:
    """The works of these names; what is missing is made by a process of its own, which imports TensorFlow."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = [name for name in names if not (folder / f"{name}.pickle").exists()]
    if missing:
        command = [sys.executable, "-m", "benchmarks.suite.make_models", str(folder), *missing]
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    works = {}
    for name in names:
        inputs, outputs = pickle.loads((folder / f"{name}.pickle").read_bytes())
        works[name] = Work(name, folder / name, inputs, outputs)
    return works
