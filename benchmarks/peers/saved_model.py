"""A SavedModel by TensorFlow's Python package, as every peer in Python calls it. Runs in the environments of the peers.

`read` and `write` are the JSON that servers without a form of their own get and answer: TensorFlow Serving's, by rows
(`instances`) for a model with one input and by columns (`inputs`) for others.
"""

from __future__ import annotations

import os
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf

Array = np.ndarray[Any, Any]


class SavedModel:
    """The default signature of one SavedModel."""

    def __init__(self, path: str) -> None:
        self._loaded = tf.saved_model.load(path)
        self._call = self._loaded.signatures["serving_default"]
        self._specs = self._call.structured_input_signature[1]
        self.dtypes = {
            name: np.dtype(object) if spec.dtype == tf.string else np.dtype(spec.dtype.as_numpy_dtype)
            for name, spec in self._specs.items()
        }
        self.ranks = {name: len(spec.shape) for name, spec in self._specs.items()}
        self.shapes = {name: tuple(spec.shape[1:]) for name, spec in self._specs.items()}
        self.outputs = {name: tuple(spec.shape[1:]) for name, spec in self._call.structured_outputs.items()}

    def __call__(self, inputs: dict[str, Array]) -> dict[str, Array]:
        """Run it. A tensor with one dimension too many, of size 1, is taken without it."""
        tensors = {}
        for name, spec in self._specs.items():
            array = inputs[name]
            if array.ndim > self.ranks[name]:
                array = array.reshape(array.shape[: self.ranks[name]])
            tensors[name] = tf.constant(array, spec.dtype)
        return {name: tensor.numpy() for name, tensor in self._call(**tensors).items()}

    def read(self, payload: dict[str, Any]) -> dict[str, Array]:
        """The tensors in a request in JSON."""
        if "instances" in payload:
            (name,) = self.dtypes
            return {name: np.array(payload["instances"], self.dtypes[name])}
        return {name: np.array(payload["inputs"][name], dtype) for name, dtype in self.dtypes.items()}

    def write(self, outputs: dict[str, Array]) -> dict[str, Any]:
        """The answer to it."""
        if len(self.dtypes) == 1 and len(outputs) == 1:
            (output,) = outputs.values()
            return {"predictions": output.tolist()}
        return {"outputs": {name: output.tolist() for name, output in outputs.items()}}


def join(requests: list[dict[str, Array]]) -> tuple[dict[str, Array], list[int]]:
    """The rows of several requests as one, and how many each has."""
    sizes = [len(next(iter(request.values()))) for request in requests]
    return {name: np.concatenate([request[name] for request in requests]) for name in requests[0]}, sizes


def split(outputs: dict[str, Array], sizes: list[int]) -> list[dict[str, Array]]:
    """The rows of each request again."""
    ends = np.cumsum(sizes)[:-1]
    parts = {name: np.split(output, ends) for name, output in outputs.items()}
    return [{name: part[number] for name, part in parts.items()} for number in range(len(sizes))]
