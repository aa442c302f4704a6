"""TFLite models, with every way to say what can be asked of them."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from flatbuffers import flexbuffers
from tensorflow.lite.python import schema_py_generated as schema
from tensorflow.lite.tools import flatbuffer_utils

from tests.zoo.build import Requests, _function, _save, _save_line, maker, tf, v1

TYPES = (
    *(np.float32, np.int32, np.uint8, np.int64, np.bool_, np.int16, np.complex64, np.int8, np.float64, np.uint32),
    *(np.float16, np.uint64),
)


@maker
def tflite(base: Path) -> Requests:
    """A model.tflite in each version:

    1  beside a SavedModel that adds 2 where it adds 3, with several signatures
    2  without signatures
    3  with SignatureDefs in its metadata
    4  the identity of every element type, one signature each
    5  with an operation that there is no code for
    6  with metadata that is damaged
    """
    _save_line(base / "1", 2.0)
    _write(base / "1", _convert(_several()))
    line = {"serving_default": _function(lambda x: {"y": x * 0.5 + 3.0}, tf.TensorSpec([None], tf.float32, "x"))}
    bare = flatbuffer_utils.convert_bytearray_to_object(_convert(line))
    bare.signatureDefs = None
    for tensor in bare.subgraphs[0].tensors:
        tensor.name = {b"serving_default_x:0": b"x:0", b"PartitionedCall:0": b"y"}.get(tensor.name, tensor.name)
    _write(base / "2", flatbuffer_utils.convert_object_to_bytearray(bare))
    _describe(bare, _encode_map(_described()))
    _write(base / "3", flatbuffer_utils.convert_object_to_bytearray(bare))
    _write(base / "4", _convert({name: _identity(dtype) for name, dtype in _types().items()}))
    lengths = _function(lambda s: {"n": tf.strings.length(s)}, tf.TensorSpec([None], tf.string, "s"))
    _write(base / "5", _convert({"serving_default": lengths}, allow_custom_ops=True))
    bare.buffers[-1].data = np.frombuffer(b"\xff\xfe\xfd", np.uint8)
    _write(base / "6", flatbuffer_utils.convert_object_to_bytearray(bare))
    return []


def _several() -> dict[str, Any]:
    vector = tf.TensorSpec([None], tf.float32, "x")
    weights = tf.constant(np.eye(4, 2, dtype=np.float32))

    def count(steps: Any) -> Any:
        (total,) = tf.while_loop(lambda done: done < steps, lambda done: (done + 1,), (tf.constant(0),))
        return {"total": total}

    return {
        "serving_default": _function(lambda x: {"y": x * 0.5 + 3.0}, vector),
        "two": _function(
            lambda x, s: {"z": x + 1.0, "t": tf.identity(s)}, vector, tf.TensorSpec([None], tf.string, "s")
        ),
        "dense": _function(lambda x: {"y": x @ weights}, tf.TensorSpec([None, 4], tf.float32, "x")),
        "pick": _function(lambda i: {"y": tf.gather(weights, i)}, tf.TensorSpec([None], tf.int32, "i")),
        "count": _function(count, tf.TensorSpec([], tf.int32, "steps")),
        "regress": _function(
            lambda inputs: {"outputs": tf.fill(tf.shape(inputs), 1.5)}, tf.TensorSpec([None], tf.string, "inputs")
        ),
    }


def _types() -> dict[str, Any]:
    return {np.dtype(scalar).name: tf.as_dtype(scalar) for scalar in TYPES} | {"string": tf.string}


def _identity(dtype: Any) -> Any:
    return _function(lambda x: {"y": tf.identity(x)}, tf.TensorSpec([None], dtype, "x"))


def _convert(signatures: Mapping[str, Any], *, allow_custom_ops: bool = False) -> bytes:
    module = tf.Module()
    module.functions = list(signatures.values())
    with tempfile.TemporaryDirectory() as folder:
        _save(module, Path(folder), dict(signatures))
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=list(signatures))
        converter.allow_custom_ops = allow_custom_ops
        converted: bytes = converter.convert()
    return converted


def _write(folder: Path, content: bytes) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "model.tflite").write_bytes(content)


def _described() -> dict[str, bytes]:
    """SignatureDefs that name the tensors `x:0` and `y` with and without their index, and one that does not exist."""
    signatures = {}
    for name, x, y, method in (
        ("serving_default", "x", "y:0", "tensorflow/serving/predict"),
        ("regress", "x:0", "y", "tensorflow/serving/regress"),
        ("broken", "x", "nowhere", "tensorflow/serving/predict"),
    ):
        ends = [
            {alias: v1.TensorInfo(name=tensor, dtype=tf.float32.as_datatype_enum)}
            for alias, tensor in (("in", x), ("out", y))
        ]
        signatures[name] = v1.saved_model.build_signature_def(*ends, method).SerializeToString()
    return signatures


def _encode_map(signatures: Mapping[str, bytes]) -> bytes:
    builder = flexbuffers.Builder()
    with builder.Map():
        for name, encoded in signatures.items():
            builder.String(name, encoded.decode())  # which these small ones can be
    encoded_map: bytes = bytes(builder.Finish())
    return encoded_map


def _describe(model: Any, encoded: bytes) -> None:
    """Put this into the model's metadata, where TensorFlow's signature_def_util looks for signatures."""
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(encoded, np.uint8)
    model.buffers.append(buffer)
    metadata = schema.MetadataT()
    metadata.name, metadata.buffer = b"signature_defs_metadata", len(model.buffers) - 1
    model.metadata = [*(model.metadata or []), metadata]
