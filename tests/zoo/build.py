"""Makes the models of the zoo with TensorFlow's Python package.

A maker exports into a base path and returns the requests to ask; `make` asks them of `tf.saved_model.load` and keeps
the answers. A new model is a new maker.
"""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import ml_dtypes
import numpy as np
import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import saved_model_pb2

v1 = tf.compat.v1
Array = np.ndarray[Any, Any]
Requests = list[tuple[int, str, dict[str, Array]]]
Maker = Callable[[Path], Requests]

MAKERS: dict[str, Maker] = {}


def maker(function: Maker) -> Maker:
    """Add a model to the zoo under the function's name."""
    MAKERS[function.__name__] = function
    return function


def make(dest: Path, names: Sequence[str] = ()) -> None:
    """Make these models under a folder; all if none is named."""
    unknown = set(names) - MAKERS.keys()
    if unknown:
        raise SystemExit(f"The zoo has no {sorted(unknown)}; it has {sorted(MAKERS)}.")
    for name in names or MAKERS:
        base = dest / name
        shutil.rmtree(base, ignore_errors=True)
        base.mkdir(parents=True)
        tf.random.set_seed(7)
        requests = MAKERS[name](base)
        (dest / f"{name}.examples").write_bytes(pickle.dumps(_answered(base, requests)))


def _answered(base: Path, requests: Requests) -> list[tuple[int, str, dict[str, Array], dict[str, Array]]]:
    loaded: dict[int, Any] = {}
    answered = []
    for version, signature, inputs in requests:
        if version not in loaded:
            loaded[version] = tf.saved_model.load(str(base / str(version)))
        tensors = {name: tf.constant(value, _dtype(value)) for name, value in inputs.items()}
        outputs = loaded[version].signatures[signature](**tensors)
        answers = {name: np.asarray(value.numpy()) for name, value in outputs.items()}
        answered.append((version, signature, inputs, answers))
    return answered


def _dtype(value: Array) -> Any:
    return tf.string if value.dtype.kind == "O" else tf.as_dtype(value.dtype)


def _save(module: tf.Module, folder: Path, signatures: Any) -> None:
    tf.saved_model.save(module, str(folder), signatures=signatures)


def _function(compute: Callable[..., Any], *specs: tf.TypeSpec) -> Any:
    return tf.function(compute, input_signature=specs)


def _bytes(*values: bytes) -> Array:
    array = np.empty(len(values), np.object_)
    array[:] = values
    return array


@maker
def half_plus_two(base: Path) -> Requests:
    """y = x / 2 + 2; version 2 adds 3, so that one sees which version has answered."""
    _save_line(base / "1", 2.0)
    _save_line(base / "2", 3.0)
    x = np.array([1, 2, 5], np.float32)
    return [(1, "serving_default", {"x": x}), (2, "serving_default", {"x": x})]


def _save_line(folder: Path, summand: float) -> None:
    module = tf.Module()
    module.factor, module.summand = tf.Variable(0.5), tf.Variable(summand)
    module.compute = _function(
        lambda x: {"y": x * module.factor + module.summand}, tf.TensorSpec([None], tf.float32, "x")
    )
    _save(module, folder, module.compute)


@maker
def dense(base: Path) -> Requests:
    """Two dense layers with a softmax."""
    module = tf.Module()
    module.w1, module.b1 = tf.Variable(tf.random.normal([8, 16])), tf.Variable(tf.random.normal([16]))
    module.w2, module.b2 = tf.Variable(tf.random.normal([16, 3])), tf.Variable(tf.zeros([3]))

    def compute(x: Any) -> Any:
        hidden = tf.nn.relu(x @ module.w1 + module.b1)
        return {"probabilities": tf.nn.softmax(hidden @ module.w2 + module.b2)}

    module.compute = _function(compute, tf.TensorSpec([None, 8], tf.float32, "x"))
    _save(module, base / "1", module.compute)
    x = np.random.default_rng(1).normal(size=(5, 8)).astype(np.float32)
    return [(1, "serving_default", {"x": x[:count]}) for count in (1, 5, 0)]


@maker
def conv(base: Path) -> Requests:
    """A convolution over images, and means over its channels."""
    module = tf.Module()
    module.kernel = tf.Variable(tf.random.normal([3, 3, 3, 4]))

    def compute(image: Any) -> Any:
        return {"features": tf.reduce_mean(tf.nn.conv2d(image, module.kernel, 1, "SAME"), axis=[1, 2])}

    module.compute = _function(compute, tf.TensorSpec([None, None, None, 3], tf.float32, "image"))
    _save(module, base / "1", module.compute)
    images = np.random.default_rng(2).random((2, 224, 224, 3), np.float32)
    return [(1, "serving_default", {"image": images}), (1, "serving_default", {"image": images[:, ::2, 1:9]})]


@maker
def lookup(base: Path) -> Requests:
    """A table of words whose vocabulary is an asset file."""
    vocabulary = Path(tempfile.mkdtemp(), "vocabulary.txt")
    vocabulary.write_text("zero\none\ntwo\n")
    module = tf.Module()
    module.asset = tf.saved_model.Asset(str(vocabulary))
    module.table = tf.lookup.StaticHashTable(
        tf.lookup.TextFileInitializer(
            module.asset, tf.string, tf.lookup.TextFileIndex.WHOLE_LINE, tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER
        ),
        default_value=-1,
    )
    spec = tf.TensorSpec([None], tf.string, "words")
    module.compute = _function(lambda words: {"ids": module.table.lookup(words)}, spec)
    _save(module, base / "1", module.compute)
    shutil.rmtree(vocabulary.parent)
    return [(1, "serving_default", {"words": _bytes(b"two", b"three", b"zero")})]


@maker
def parser(base: Path) -> Requests:
    """Parses serialised tf.Example: a TF1 export with the signatures for classify, regress and predict."""
    with tf.Graph().as_default(), v1.Session() as session:
        serialized = v1.placeholder(tf.string, [None], "examples")
        features = tf.io.parse_example(serialized, {"x": tf.io.FixedLenFeature([2], tf.float32, [0.0, 0.0])})
        weights = v1.get_variable("weights", initializer=[[1.0, -1.0, 0.5], [0.5, 2.0, -0.5]])
        scores = tf.nn.softmax(features["x"] @ weights, name="scores")
        names = tf.constant(["red", "green", "blue"])
        classes = tf.tile(names[tf.newaxis], [tf.shape(scores)[0], 1])
        value = tf.reduce_sum(features["x"], axis=1, keepdims=True)
        session.run(v1.global_variables_initializer())
        _export_v1(
            session,
            base / "1",
            {
                "serving_default": v1.saved_model.classification_signature_def(serialized, classes, scores),
                "regress": v1.saved_model.regression_signature_def(serialized, value),
                "predict": v1.saved_model.predict_signature_def({"x": features["x"]}, {"scores": scores}),
            },
        )
    rows = [{"x": [1.0, 2.0]}, {"x": [-0.5, 0.25]}, {}]
    inputs = {"inputs": _bytes(*[_example(row) for row in rows])}
    return [
        (1, "serving_default", inputs),
        (1, "regress", inputs),
        (1, "predict", {"x": np.array([[3, 1]], np.float32)}),
    ]


def _example(row: dict[str, list[float]]) -> bytes:
    feature = {name: tf.train.Feature(float_list=tf.train.FloatList(value=values)) for name, values in row.items()}
    encoded: bytes = tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()
    return encoded


@maker
def many(base: Path) -> Requests:
    """Several inputs of several types, several outputs, one of them a constant under two names."""
    module = tf.Module()

    def compute(a: Any, b: Any, flag: Any) -> Any:
        total = tf.reduce_sum(a, axis=1) + tf.cast(b, tf.float32)
        fixed = tf.constant([1.5, 2.5])
        return {"total": total, "again": total, "count": tf.shape(a)[0], "not": tf.logical_not(flag), "fixed": fixed}

    module.compute = _function(
        compute,
        tf.TensorSpec([None, 2], tf.float32, "a"),
        tf.TensorSpec([None], tf.int32, "b"),
        tf.TensorSpec([None], tf.bool, "flag"),
    )
    _save(module, base / "1", module.compute)
    inputs = {
        "a": np.arange(6, dtype=np.float32).reshape(3, 2),
        "b": np.array([10, 20, 30], np.int32),
        "flag": np.array([True, False, True]),
    }
    return [(1, "serving_default", inputs)]


@maker
def counter(base: Path) -> Requests:
    """Keeps state between requests: a running total, and the last big tensor and the last text that it was given."""
    module = tf.Module()
    module.total = tf.Variable(0.0)
    module.kept = tf.Variable(tf.zeros([0]), shape=[None])
    module.text = tf.Variable(tf.constant([], tf.string), shape=[None])

    def keep(x: Any) -> Any:
        return {"sum": tf.reduce_sum(module.kept.assign(x))}

    def note(text: Any) -> Any:
        return {"count": tf.size(module.text.assign(text))}

    number, vector = tf.TensorSpec([], tf.float32, "x"), tf.TensorSpec([None], tf.float32, "x")
    signatures = {
        "serving_default": _function(lambda x: {"total": module.total.assign_add(x)}, number),
        "keep": _function(keep, vector),
        "kept": _function(lambda: {"kept": module.kept.read_value()}),
        "note": _function(note, tf.TensorSpec([None], tf.string, "text")),
        "noted": _function(lambda: {"text": module.text.read_value()}),
    }
    module.functions = list(signatures.values())
    _save(module, base / "1", signatures)
    ramp = np.arange(200_000, dtype=np.float32)
    text = _bytes(b"short", b"long enough not to fit into the string itself")
    return [
        (1, "serving_default", {"x": np.float32(1.5).reshape(())}),
        (1, "serving_default", {"x": np.float32(2.0).reshape(())}),
        (1, "keep", {"x": ramp}),
        (1, "kept", {}),
        (1, "note", {"text": text}),
        (1, "noted", {}),
    ]


@maker
def composite(base: Path) -> Requests:
    """Ragged and sparse inputs and outputs, which no request can carry, beside a plain output and a plain signature."""
    module = tf.Module()

    def rows(x: Any) -> Any:
        return {
            "plain": x * 2,
            "ragged": tf.RaggedTensor.from_row_lengths(x, [tf.size(x)]),
            "sparse": tf.sparse.from_dense(x),
        }

    plain = tf.TensorSpec([None], tf.float32, "x")
    signatures = {
        "serving_default": _function(rows, plain),
        "ragged_in": _function(
            lambda x: {"sum": tf.reduce_sum(x)}, tf.RaggedTensorSpec([None, None], tf.float32, ragged_rank=1)
        ),
        "sparse_in": _function(lambda x: {"sum": tf.sparse.reduce_sum(x)}, tf.SparseTensorSpec([None], tf.float32)),
        "plain": _function(lambda x: {"y": x + 1}, plain),
    }
    module.functions = list(signatures.values())
    _save(module, base / "1", signatures)
    return [(1, "plain", {"x": np.array([1, 2], np.float32)})]


_TYPES = [
    *(np.float16, np.float32, np.float64, ml_dtypes.bfloat16, np.int8, np.int16, np.int32, np.int64),
    *(np.uint8, np.uint16, np.uint32, np.uint64, np.bool_, np.complex64, np.complex128),
    *(ml_dtypes.float8_e5m2, ml_dtypes.float8_e4m3fn, ml_dtypes.int4, ml_dtypes.uint4),
]


@maker
def dtypes(base: Path) -> Requests:
    """The identity, for every element type that a request can carry: one signature each, named like the numpy type."""
    types = {np.dtype(scalar).name: tf.as_dtype(scalar) for scalar in _TYPES} | {"string": tf.string}
    with tf.Graph().as_default(), v1.Session() as session:
        signatures = {}
        for name, dtype in types.items():
            x = v1.placeholder(dtype, None, name)
            signatures[name] = v1.saved_model.predict_signature_def({"x": x}, {"y": tf.identity(x)})
        _export_v1(session, base / "1", signatures)
    requests: Requests = []
    for scalar in _TYPES:
        values = np.array([0, 1, 1, 3, 4, 7]).astype(scalar)
        for shape in ((6,), (2, 3), (1, 6, 1)):
            requests.append((1, np.dtype(scalar).name, {"x": values.reshape(shape)}))
        requests.append((1, np.dtype(scalar).name, {"x": values[3].reshape(())}))
        requests.append((1, np.dtype(scalar).name, {"x": values[:0].reshape(0, 4)}))
    strings = _bytes(b"", b"a\0b", "zwölf".encode(), b"x" * 22, b"y" * 23, b"\xff" * 5000)
    for shape in ((6,), (2, 3), (3, 1, 2)):
        requests.append((1, "string", {"x": strings.reshape(shape)}))
    requests.append((1, "string", {"x": strings[4:5].reshape(())}))
    requests.append((1, "string", {"x": strings[:0].reshape(2, 0)}))
    return requests


@maker
def several(base: Path) -> Requests:
    """Several signatures of one model."""
    module = tf.Module()
    module.factor = tf.Variable(3.0)
    spec = tf.TensorSpec([None], tf.float32, "x")
    signatures = {
        "serving_default": _function(lambda x: {"y": x * module.factor}, spec),
        "square": _function(lambda x: {"y": x * x}, spec),
        "scalar": _function(lambda x: {"y": x + 1}, tf.TensorSpec([], tf.float32, "x")),
        "nothing": _function(lambda: {"factor": module.factor.read_value()}),
    }
    module.functions = list(signatures.values())
    _save(module, base / "1", signatures)
    x = np.array([1, 2, 3], np.float32)
    return [
        (1, "serving_default", {"x": x}),
        (1, "square", {"x": x}),
        (1, "scalar", {"x": np.array(4, np.float32)}),
        (1, "nothing", {}),
    ]


@maker
def tf1(base: Path) -> Requests:
    """A TF1 export: variables, a table from an asset that the main op fills, and an input with a default."""
    vocabulary = Path(tempfile.mkdtemp(), "colours.txt")
    vocabulary.write_text("red\ngreen\nblue\n")
    with tf.Graph().as_default(), v1.Session() as session:
        asset = tf.constant(str(vocabulary), name="asset")
        table = tf.lookup.StaticHashTable(
            tf.lookup.TextFileInitializer(
                asset, tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER, tf.string, tf.lookup.TextFileIndex.WHOLE_LINE
            ),
            default_value="none",
        )
        x = v1.placeholder(tf.float32, [None, 2], "x")
        bias = v1.placeholder(tf.float32, [], "bias")
        weights = v1.get_variable("weights", initializer=[[1.0], [2.0]])
        product = tf.add(x @ weights, bias, name="product")
        colour = table.lookup(tf.cast(tf.reshape(product, [-1]), tf.int64))
        session.run(v1.global_variables_initializer())
        signature = v1.saved_model.build_signature_def(
            {"x": v1.saved_model.build_tensor_info(x), "bias": v1.saved_model.build_tensor_info(bias)},
            {"product": v1.saved_model.build_tensor_info(product), "colour": v1.saved_model.build_tensor_info(colour)},
            "tensorflow/serving/predict",
        )
        signature.defaults["bias"].CopyFrom(tf.make_tensor_proto(-1.0))
        _export_v1(session, base / "1", {"serving_default": signature}, main_op=v1.tables_initializer())
    shutil.rmtree(vocabulary.parent)
    x = np.array([[1, 0], [0, 1], [5, 5]], np.float32)
    return [(1, "serving_default", {"x": x, "bias": np.array(bias, np.float32)}) for bias in (-1, 0.5)]


def _export_v1(session: Any, folder: Path, signatures: dict[str, Any], main_op: Any = None) -> None:
    builder = v1.saved_model.Builder(str(folder))
    assets = v1.get_collection(v1.GraphKeys.ASSET_FILEPATHS)
    builder.add_meta_graph_and_variables(
        session, ["serve"], signature_def_map=signatures, assets_collection=assets, main_op=main_op
    )
    builder.save()


@maker
def slow(base: Path) -> Requests:
    """Multiplies matrices as many times as it is asked to; some tens of microseconds each."""
    module = tf.Module()

    def compute(steps: Any) -> Any:
        matrix = tf.fill([128, 128], 1 / 128)
        _, matrix = tf.while_loop(
            lambda step, _: step < steps, lambda step, matrix: (step + 1, matrix @ matrix), (tf.constant(0), matrix)
        )
        return {"y": tf.reduce_sum(matrix)}

    module.compute = _function(compute, tf.TensorSpec([], tf.int32, "steps"))
    _save(module, base / "1", module.compute)
    return [(1, "serving_default", {"steps": np.array(3, np.int32)})]


@maker
def strings(base: Path) -> Requests:
    """Text in, text out: upper case, the words by row, and a greeting of no dimensions."""
    module = tf.Module()

    def compute(text: Any) -> Any:
        pairs = tf.stack([text, tf.strings.reduce_join([text, text], axis=0, separator=" ")], axis=1)
        return {"upper": tf.strings.upper(text), "pairs": pairs, "hello": tf.constant("hello")}

    module.compute = _function(compute, tf.TensorSpec([None], tf.string, "text"))
    _save(module, base / "1", module.compute)
    return [(1, "serving_default", {"text": _bytes(b"one", b"", b"a text that is longer than the others are")})]


@maker
def heavy(base: Path) -> Requests:
    """Eight megabytes of variables, given whole, in part, or added to an input of the same size."""
    module = tf.Module()
    module.table = tf.Variable(tf.reshape(tf.range(2_000_000, dtype=tf.float32), [2000, 1000]))
    signatures = {
        "serving_default": _function(
            lambda rows: {"y": tf.gather(module.table, rows)}, tf.TensorSpec([None], tf.int32, "rows")
        ),
        "whole": _function(lambda: {"y": module.table.read_value()}),
        "add": _function(lambda x: {"y": module.table + x}, tf.TensorSpec([2000, 1000], tf.float32, "x")),
    }
    module.functions = list(signatures.values())
    _save(module, base / "1", signatures)
    x = np.ones((2000, 1000), np.float32)
    return [(1, "serving_default", {"rows": np.array([0, 1999], np.int32)}), (1, "whole", {}), (1, "add", {"x": x})]


@maker
def custom_op(base: Path) -> Requests:
    """Uses an operation of a shared library, which lies beside the versions as `add_one.so`."""
    library = base / "add_one.so"
    source = Path(__file__).with_name("add_one_op.cc")
    flags = [flag for flag in tf.sysconfig.get_compile_flags() if flag.startswith("-I")]
    subprocess.run(
        ["c++", "-shared", "-fPIC", "-O1", "-o", str(library), str(source), *flags, *tf.sysconfig.get_link_flags()],
        check=True,
    )
    operations = tf.load_op_library(str(library))
    module = tf.Module()
    module.compute = _function(lambda x: {"y": operations.add_one(x)}, tf.TensorSpec([None], tf.float32, "x"))
    _save(module, base / "1", module.compute)
    return [(1, "serving_default", {"x": np.array([1, 2], np.float32)})]


@maker
def empty(base: Path) -> Requests:
    """Broken: a version without any file."""
    (base / "1").mkdir()
    return []


@maker
def corrupt(base: Path) -> Requests:
    """Broken: version 1 is no protobuf, version 2 an empty file."""
    for version, content in ((1, b"this is no protobuf"), (2, b"")):
        (base / str(version)).mkdir()
        (base / str(version) / "saved_model.pb").write_bytes(content)
    return []


@maker
def missing_shard(base: Path) -> Requests:
    """Broken: the file with the variables' values is not there."""
    _save_line(base / "1", 2.0)
    (base / "1" / "variables" / "variables.data-00000-of-00001").unlink()
    return []


@maker
def missing_tensor(base: Path) -> Requests:
    """Broken: a signature names an input that the graph does not have; it loads, and its other signature works."""
    several(base)
    path = base / "1" / "saved_model.pb"
    saved = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    signature = saved.meta_graphs[0].signature_def["square"]
    signature.inputs["x"].name = "no_such_operation:0"
    signature.inputs["x"].dtype = types_pb2.DT_FLOAT
    path.write_bytes(saved.SerializeToString())
    return [(1, "nothing", {})]
