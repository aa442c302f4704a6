"""Makes the models of the suite with TensorFlow's Python package: `python -m benchmarks.suite.make_models DIR NAME...`

Under DIR lies NAME/1, a SavedModel, and NAME.pickle: the inputs of the request that the suite sends, and the outputs
that TensorFlow itself answers. What is there stays as it is. Weights are random and always the same.
"""

from __future__ import annotations

import itertools
import os
import pickle
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf

Array = np.ndarray[Any, Any]
Made = tuple[Any, Mapping[str, Array]]
"""An object whose `predict` is the default signature, and the inputs of a request."""

WIDE = 100
"""Inputs of the wide model."""
TEXTS = [f"the {number} words of this row are looked up one by one in a table of {number * 37}".encode()
         for number in range(8)]  # fmt: skip


def _signature(compute: Callable[..., Any], *specs: tf.TensorSpec) -> Any:
    return tf.function(compute, input_signature=specs)


def half_plus_two() -> Made:
    """y = x / 2 + 2 for three numbers: next to no work, so that the server shows."""
    module = tf.Module()
    module.factor, module.summand = tf.Variable(0.5), tf.Variable(2.0)
    spec = tf.TensorSpec([None], tf.float32, "x")
    module.predict = _signature(lambda x: {"y": x * module.factor + module.summand}, spec)
    return module, {"x": np.array([1, 2, 5], np.float32)}


def image_mean() -> Made:
    """The mean of an image of 224 x 224 x 3 by channel: next to no work on 600 KB, so that transport shows."""
    module = tf.Module()
    spec = tf.TensorSpec([None, 224, 224, 3], tf.float32, "x")
    module.predict = _signature(lambda x: {"y": tf.reduce_mean(x, [1, 2])}, spec)
    return module, {"x": _image()}


def mobilenet() -> Made:
    """MobileNetV2 with random weights: real work on an image."""
    network = tf.keras.applications.MobileNetV2(weights=None, classifier_activation=None)
    module = tf.Module()
    module.variables_of_network = [variable.value for variable in network.variables]  # Keras hides them from tf.Module
    spec = tf.TensorSpec([None, 224, 224, 3], tf.float32, "x")
    module.predict = _signature(lambda x: {"y": network(x, training=False)}, spec)
    return module, {"x": _image()}


def _image() -> Array:
    # 19 digits of a double are what most clients send for a float that is no round number.
    return np.random.default_rng(1).random((1, 224, 224, 3), np.float32)


def wide() -> Made:
    """A hundred inputs of one number per row, as of a table, into three dense layers; four rows."""
    module = tf.Module()
    sizes = (WIDE, 64, 32, 1)
    module.layers = [
        tf.Variable(tf.random.normal(shape, stddev=0.1)) for shape in itertools.pairwise(sizes)
    ]

    def compute(**columns: Any) -> Any:
        rows = tf.concat([columns[name] for name in sorted(columns)], axis=1)
        for layer in module.layers[:-1]:
            rows = tf.nn.relu(rows @ layer)
        return {"y": tf.sigmoid(rows @ module.layers[-1])}

    names = [f"f{number:03}" for number in range(WIDE)]
    specs = {name: tf.TensorSpec([None, 1], tf.float32, name) for name in names}
    module.predict = tf.function(compute).get_concrete_function(**specs)
    values = np.random.default_rng(2).normal(size=(WIDE, 4, 1)).astype(np.float32)
    return module, dict(zip(names, values, strict=True))


def text() -> Made:
    """Eight rows of text, whose words are hashed into a table of weights and added up."""
    module = tf.Module()
    module.weights = tf.Variable(tf.random.normal([1000]))

    def compute(x: Any) -> Any:
        words = tf.strings.split(x)
        buckets = tf.strings.to_hash_bucket_fast(words.flat_values, 1000)
        return {"y": tf.math.segment_sum(tf.gather(module.weights, buckets), words.value_rowids())}

    module.predict = _signature(compute, tf.TensorSpec([None], tf.string, "x"))
    rows = np.empty(len(TEXTS), object)
    rows[:] = TEXTS
    return module, {"x": rows}


def examples() -> Made:
    """Four serialised tf.Examples of eight features, parsed and classified by a dense layer."""
    module = tf.Module()
    module.weights = tf.Variable(tf.random.normal([8, 1]))
    features = {f"f{number}": tf.io.FixedLenFeature([], tf.float32) for number in range(8)}

    def compute(examples: Any) -> Any:
        parsed = tf.io.parse_example(examples, features)
        rows = tf.stack([parsed[name] for name in sorted(parsed)], axis=1)
        return {"y": tf.sigmoid(rows @ module.weights)}

    module.predict = _signature(compute, tf.TensorSpec([None], tf.string, "examples"))
    rows = np.empty(4, object)
    rows[:] = [_example(number) for number in range(4)]
    return module, {"examples": rows}


def _example(row: int) -> bytes:
    features = {
        f"f{number}": tf.train.Feature(float_list=tf.train.FloatList(value=[row + number / 8])) for number in range(8)
    }
    encoded: bytes = tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()
    return encoded


def per_call() -> Made:
    """Three dense layers of 1024 for one row: a call costs the reading of 12 MB of weights, whatever rows it has."""
    module = tf.Module()
    module.layers = [tf.Variable(tf.random.normal([1024, 1024], stddev=0.03)) for _ in range(3)]
    module.narrow = tf.Variable(tf.random.normal([8, 1024], stddev=0.3))

    def compute(x: Any) -> Any:
        rows = x @ module.narrow
        for layer in module.layers:
            rows = tf.nn.relu(rows @ layer)
        return {"y": tf.reduce_mean(rows, 1, keepdims=True)}

    module.predict = _signature(compute, tf.TensorSpec([None, 8], tf.float32, "x"))
    return module, {"x": np.random.default_rng(3).random((1, 8), np.float32)}


MAKERS = {make.__name__: make for make in (half_plus_two, image_mean, mobilenet, wide, text, examples, per_call)}


def make(folder: Path, name: str) -> None:
    """Make one of them."""
    tf.random.set_seed(7)
    module, inputs = MAKERS[name]()
    path = folder / name / "1"
    tf.saved_model.save(module, str(path), signatures={"serving_default": module.predict})
    call = tf.saved_model.load(str(path)).signatures["serving_default"]
    tensors = {key: tf.constant(value, tf.string if value.dtype == object else None) for key, value in inputs.items()}
    outputs = {key: value.numpy() for key, value in call(**tensors).items()}
    # Written last: a model without it is not complete.
    (folder / f"{name}.pickle").write_bytes(pickle.dumps((dict(inputs), outputs)))


if __name__ == "__main__":
    _, where, *names = sys.argv
    for each in names:
        if not Path(where, f"{each}.pickle").exists():
            make(Path(where), each)
