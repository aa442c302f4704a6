"""One model with a signature for each form that a request, an answer or a mistake can have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.zoo.build import Requests, maker, tf, v1

PREDICT = "tensorflow/serving/predict"
CLASSIFY = "tensorflow/serving/classify"
REGRESS = "tensorflow/serving/regress"

_TYPES = (
    *(tf.float32, tf.float64, tf.int32, tf.uint8, tf.int16, tf.int8, tf.string, tf.int64, tf.bool),
    *(tf.uint32, tf.uint64, tf.uint16, tf.float16, tf.bfloat16, tf.complex64, tf.complex128),
)


def _signature(inputs: dict[str, Any], outputs: dict[str, Any], method: str = PREDICT) -> Any:
    info = v1.saved_model.build_tensor_info
    return v1.saved_model.build_signature_def(
        {name: info(tensor) for name, tensor in inputs.items()},
        {name: info(tensor) for name, tensor in outputs.items()},
        method,
    )


@maker
def forms(base: Path) -> Requests:
    """Every element type, named and unnamed inputs and outputs, defaults, classifications, and what is wrong in each.
    """
    with tf.Graph().as_default(), v1.Session() as session:
        signatures = {**_types(), **_shapes(), **_examples()}
        builder = v1.saved_model.Builder(str(base / "1"))
        builder.add_meta_graph_and_variables(session, ["serve"], signature_def_map=signatures)
        builder.save()
    return []


def _types() -> dict[str, Any]:
    """The identity `x` to `y` of every type, for any shape, under TensorFlow's name of the type."""
    signatures = {}
    for dtype in _TYPES:
        x = v1.placeholder(dtype, None, f"{dtype.name}_x")
        signatures[dtype.name] = _signature({"x": x}, {"y": tf.identity(x)})
    return signatures


def _shapes() -> dict[str, Any]:
    x = v1.placeholder(tf.float32, [None], "x")
    s = v1.placeholder(tf.string, None, "s")
    a, b = v1.placeholder(tf.float32, None, "a"), v1.placeholder(tf.string, None, "b")
    matrix = v1.placeholder(tf.float32, [None, None], "matrix")
    bias = v1.placeholder(tf.float32, [], "bias")
    defaults = _signature({"x": x, "bias": bias}, {"y": x + bias})
    defaults.defaults["bias"].CopyFrom(tf.make_tensor_proto(-1.0))
    same_a, same_b, same_s = tf.identity(a, "same_a"), tf.identity(b, "same_b"), tf.identity(s, "same_s")
    return {
        "serving_default": _signature({"x": x}, {"y": x * 0.5 + 2.0}),
        "two": _signature({"a": a, "b": b}, {"a": same_a, "b": same_b}),
        "two_to_one": _signature({"a": a, "b": b}, {"a": same_a}),
        "one_to_two": _signature({"a": a}, {"a": same_a, "twice": a * 2.0}),
        "binary": _signature({"s": s}, {"s_bytes": same_s}),
        "both": _signature({"s": s}, {"s": same_s, "s_bytes": same_s}),
        "b64": _signature({"b64": s}, {"s": same_s}),
        "defaults": defaults,
        "nothing": _signature({}, {"y": tf.constant([1.5, 2.5])}),
        "no_output": _signature({"x": x}, {}),
        "sum": _signature({"a": a}, {"y": tf.reduce_sum(a)}),
        "uneven": _signature({"x": x}, {"all": tf.identity(x), "rest": x[1:]}),
        "no_rows": _signature({"x": x}, {"y": x[:0]}),
        "to_half": _signature({"x": x}, {"y": tf.cast(x, tf.float16)}),
        "to_complex": _signature({"x": x}, {"y": tf.cast(x, tf.complex64)}),
        "two_rows": _signature({"x": x}, {"y": tf.constant([1.0, 2.0])}),
        "matmul": _signature({"x": matrix}, {"y": matrix @ tf.constant([[1.0], [2.0]])}),
    }


def _examples() -> dict[str, Any]:
    """Examples have the features x (two floats, zeros by default), c (one float) and, unused by most, n (an int)."""
    examples = v1.placeholder(tf.string, [None], "examples")
    features = tf.io.parse_example(
        examples,
        {
            "x": tf.io.FixedLenFeature([2], tf.float32, [0.0, 0.0]),
            "c": tf.io.FixedLenFeature([1], tf.float32, [0.0]),
            "n": tf.io.FixedLenFeature([1], tf.int64, [0]),
            "t": tf.io.FixedLenFeature([1], tf.string, ""),
        },
    )
    scores = tf.concat([features["x"], features["c"]], axis=1, name="scores")
    rows = tf.shape(scores)[0]
    classes = tf.tile(tf.constant([["red", "green", "blue"]]), [rows, 1], name="classes")
    value = tf.reduce_sum(scores, axis=1, keepdims=True, name="value")
    text, number = tf.identity(features["t"]), tf.cast(features["n"], tf.float32)
    inputs = {"inputs": examples}
    both = {"classes": classes, "scores": scores}
    flat = value[:, 0]
    return {
        "classify": _signature(inputs, both, CLASSIFY),
        "classify_by_predict": _signature(inputs, both),
        "scores_only": _signature(inputs, {"scores": scores}, CLASSIFY),
        "classes_only": _signature(inputs, {"classes": classes}, CLASSIFY),
        "regress": _signature(inputs, {"outputs": value}, REGRESS),
        "regress_flat": _signature(inputs, {"outputs": flat}, REGRESS),
        "regress_by_predict": _signature(inputs, {"outputs": value}),
        "number": _signature(inputs, {"outputs": number}, REGRESS),
        "text": _signature(inputs, {"classes": text}, CLASSIFY),
        "strange_method": _signature(inputs, {"outputs": value}, "strange/method"),
        "no_method": _signature(inputs, {"outputs": value}, ""),
        # What classifying and regressing refuse.
        "two_inputs": _signature({"inputs": examples, "more": examples}, both, CLASSIFY),
        "three_outputs": _signature(inputs, {**both, "more": value}, CLASSIFY),
        "other_input": _signature({"x": examples}, {"scores": scores}, CLASSIFY),
        "other_output": _signature(inputs, {"y": value}, CLASSIFY),
        "other_outputs": _signature(inputs, {"y": value, "z": value}, CLASSIFY),
        "flat_scores": _signature(inputs, {"scores": flat}, CLASSIFY),
        "flat_classes": _signature(inputs, {"classes": classes[:, 0]}, CLASSIFY),
        "float_classes": _signature(inputs, {"classes": scores}, CLASSIFY),
        "text_scores": _signature(inputs, {"scores": classes}, CLASSIFY),
        "double_scores": _signature(inputs, {"scores": tf.cast(scores, tf.float64)}, CLASSIFY),
        "more_scores": _signature(inputs, {"scores": tf.concat([scores, scores], 0)}, CLASSIFY),
        "more_classes": _signature(inputs, {"classes": tf.concat([classes, classes], 0)}, CLASSIFY),
        "wide_scores": _signature(inputs, {"classes": classes, "scores": tf.concat([scores, scores], 1)}, CLASSIFY),
        "regress_other_input": _signature({"x": examples}, {"outputs": value}, REGRESS),
        "regress_other_output": _signature(inputs, {"y": value}, REGRESS),
        "regress_wide": _signature(inputs, {"outputs": scores}, REGRESS),
        "regress_scalar": _signature(inputs, {"outputs": tf.reduce_sum(scores)}, REGRESS),
        "regress_more": _signature(inputs, {"outputs": tf.concat([value, value], 0)}, REGRESS),
        "regress_double": _signature(inputs, {"outputs": tf.cast(value, tf.float64)}, REGRESS),
        "regress_text": _signature(inputs, {"outputs": classes[:, :1]}, REGRESS),
        "regress_two": _signature(inputs, {"outputs": value, "more": value}, REGRESS),
    }
