"""Several heads over the same examples: what MultiInference is for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.zoo.build import Requests, _bytes, _example, _export_v1, _save, maker, tf, v1

_FEATURES = {"x": tf.io.FixedLenFeature([2], tf.float32, [0.0, 0.0])}


@maker
def heads(base: Path) -> Requests:
    """Version 1 throws dice, which its signatures share in one run and in no other; version 2 is TensorFlow 2's."""
    _dice(base / "1")
    module = tf.Module()
    module.weights = tf.Variable([[1.0, -1.0], [0.5, 2.0]])
    spec = tf.TensorSpec([None], tf.string, "inputs")

    @tf.function(input_signature=[spec])
    def scores(inputs: Any) -> Any:
        return {"scores": tf.io.parse_example(inputs, _FEATURES)["x"] @ module.weights}

    @tf.function(input_signature=[spec])
    def total(inputs: Any) -> Any:
        return {"outputs": tf.reduce_sum(tf.io.parse_example(inputs, _FEATURES)["x"], axis=1)}

    _save(module, base / "2", {"serving_default": scores, "total": total})
    inputs = {"inputs": _bytes(*[_example(row) for row in ({"x": [1.0, 2.0]}, {})])}
    return [(2, "serving_default", inputs), (2, "total", inputs)]


def _dice(folder: Path) -> None:
    with tf.Graph().as_default(), v1.Session() as session:
        examples, others = v1.placeholder(tf.string, [None], "examples"), v1.placeholder(tf.string, [None], "others")
        thrown = tf.random.uniform([tf.shape(examples)[0], 1])
        predict = v1.saved_model.predict_signature_def
        signatures = {
            "serving_default": predict({"inputs": examples}, {"scores": thrown}),
            "value": predict({"inputs": examples}, {"outputs": thrown}),
            "a/length": predict({"inputs": others}, {"outputs": tf.cast(tf.strings.length(others), tf.float32)}),
        }
        _export_v1(session, folder, signatures)
