"""SignatureDef messages and Signatures."""

from __future__ import annotations

import pytest
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2

from serving_app.core.errors import DataLoss
from serving_app.core.signatures import DType, TensorSpec
from serving_app.protocol import messages
from serving_app.protocol.signature_proto import default_inputs, make_signature, signatures_from_meta_graph


def meta_graph() -> meta_graph_pb2.MetaGraphDef:
    """A graph with one signature, described by TensorFlow itself."""
    meta = meta_graph_pb2.MetaGraphDef()
    signature = meta.signature_def["serving_default"]
    signature.method_name = "tensorflow/serving/predict"
    build_info = tf.compat.v1.saved_model.build_tensor_info
    placeholder = tf.compat.v1.placeholder
    with tf.Graph().as_default() as graph:
        signature.inputs["b"].CopyFrom(build_info(placeholder(tf.float32, [None, 3], "b")))
        signature.inputs["a"].CopyFrom(build_info(placeholder(tf.string, None, "a")))
        signature.inputs["s"].CopyFrom(build_info(tf.compat.v1.sparse_placeholder(tf.int64, [None, 5], "s")))
        signature.outputs["y"].CopyFrom(build_info(placeholder(tf.bfloat16, [], "y")))
        meta.graph_def.CopyFrom(graph.as_graph_def())
    signature.defaults["b"].CopyFrom(tf.make_tensor_proto([[1.0, 2.0, 3.0]]))
    return meta


def test_reads_what_tensorflow_writes() -> None:
    """Names, types and shapes are those of the SignatureDef: unknown sizes are -1, an unknown rank is None, a sparse
    input has no tensor of its own."""
    signature = signatures_from_meta_graph(meta_graph().SerializeToString())["serving_default"]
    assert signature.method_name == "tensorflow/serving/predict"
    assert list(signature.inputs) == ["a", "b", "s"]
    assert signature.inputs["a"] == TensorSpec("a:0", DType.STRING, None)
    assert signature.inputs["b"] == TensorSpec("b:0", DType.FLOAT, (-1, 3))
    assert signature.inputs["s"].tensor == ""
    assert signature.outputs == {"y": TensorSpec("y:0", DType.BFLOAT16, ())}


def test_encoded_is_the_whole_signature() -> None:
    """`encoded` is the SignatureDef as the model has it, with its default values and the parts of sparse inputs."""
    meta = meta_graph()
    signature = signatures_from_meta_graph(meta.SerializeToString())["serving_default"]
    assert meta_graph_pb2.SignatureDef.FromString(signature.encoded) == meta.signature_def["serving_default"]
    assert default_inputs(signature) == {"b"}


def test_composite_has_no_tensor() -> None:
    """A composite (ragged) input has no tensor of its own either."""
    meta = messages.MetaGraphDef()
    info = meta.signature_def["s"].inputs["ragged"]
    info.composite_tensor.components.add(name="values:0")
    assert signatures_from_meta_graph(meta.SerializeToString())["s"].inputs["ragged"].tensor == ""


def test_make_signature() -> None:
    """A signature that is made from specs has an encoded form that says the same."""
    inputs = {"b": TensorSpec("b:0", DType.FLOAT, (-1, 3)), "a": TensorSpec("a:0", DType.STRING, None)}
    outputs = {"y": TensorSpec("y:0", DType.INT4, ())}
    signature = make_signature(inputs, outputs)
    assert (signature.inputs, signature.outputs) == (inputs, outputs)
    meta = messages.MetaGraphDef()
    meta.signature_def["s"].MergeFromString(signature.encoded)
    assert signatures_from_meta_graph(meta.SerializeToString()) == {"s": signature}


def test_no_signatures() -> None:
    """A graph without signatures has none."""
    assert signatures_from_meta_graph(b"") == {}


def test_broken_bytes() -> None:
    """Bytes that are no MetaGraphDef are lost data, and the error says what to do."""
    with pytest.raises(DataLoss, match="export the model again"):
        signatures_from_meta_graph(b"\xff\xff\xff")
