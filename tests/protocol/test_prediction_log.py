"""Logged requests, as TensorFlow Serving's own classes write them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from serving_app.core.errors import FailedPrecondition, InvalidArgument, ServingError, Unimplemented
from serving_app.core.signatures import DType, TensorSpec
from serving_app.protocol.calls import JOINT, Call
from serving_app.protocol.prediction_log import LoggedCall, decode_log, encode_predict_log, logged_call
from serving_app.protocol.signature_proto import make_signature

NUMBERS, TEXTS = TensorSpec("x:0", DType.FLOAT, (-1,)), TensorSpec("e:0", DType.STRING, (-1,))
SIGNATURES = {
    "serving_default": make_signature({"x": NUMBERS}, {"y": NUMBERS, "z": NUMBERS}),
    "classify": make_signature({"inputs": TEXTS}, {"scores": NUMBERS}),
    "regress": make_signature({"inputs": TEXTS}, {"outputs": NUMBERS}),
}


def log(kind: str = "", **request: Any) -> Any:
    """A log of this kind, with these fields of the request."""
    made = prediction_log_pb2.PredictionLog()
    if kind:
        fields = getattr(made, f"{kind}_log")
        fields.SetInParent()
        for name, value in request.items():
            if name == "signature":
                fields.request.model_spec.signature_name = value
            elif name == "x":
                fields.request.inputs["x"].CopyFrom(tf.make_tensor_proto(value))
            elif name == "examples":
                for _ in range(value):
                    fields.request.input.example_list.examples.add()
            elif name == "tasks":
                for signature in value:
                    task = fields.request.tasks.add(method_name=f"tensorflow/serving/{signature}")
                    task.model_spec.name, task.model_spec.signature_name = "another model", signature
            else:
                getattr(fields.request, name).extend(value)
    return made


def read(made: Any) -> LoggedCall | None:
    """What is made of a log, by way of its bytes."""
    return logged_call(decode_log(made.SerializeToString()), SIGNATURES)


def call_of(made: Any) -> Call:
    """The call of a log."""
    logged = read(made)
    assert logged is not None
    return logged.call


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (log("predict", x=[1.0]), ("serving_default", None)),
        (log("predict", x=[1.0], signature="serving_default", output_filter=["z"]), ("serving_default", ("z",))),
        (log("classify", signature="classify", examples=2), ("classify", ("scores",))),
        (log("regress", signature="regress", examples=1), ("regress", ("outputs",))),
        (
            log("multi_inference", tasks=["regress", "classify"], examples=1),
            (JOINT, ("regress/outputs", "classify/scores")),
        ),
    ],
)
def test_each_kind_becomes_its_call(made: Any, expected: tuple[str, Any]) -> None:
    """A logged request is the call that it would be on the wire, whatever model it names, if any; no kind, no call."""
    call = call_of(made)
    assert (call.signature_name, call.outputs) == expected
    assert read(log()) is None


def test_answers_are_looked_at() -> None:
    """What a client would get an error for is an error here; Predict's outputs may be anything."""
    numbers, texts = np.ones((2, 3), np.float32), np.full((2, 3), b"red", np.object_)
    for made, right, wrong in (
        (log("classify", signature="classify", examples=2), {"scores": numbers}, {"scores": texts}),
        (log("regress", signature="regress", examples=2), {"outputs": numbers[:, 0]}, {"outputs": numbers}),
        (log("multi_inference", tasks=["regress"], examples=2), {"regress/outputs": numbers[:, :1]},
         {"regress/outputs": numbers[:1, 0]}),
    ):
        logged = read(made)
        assert logged is not None
        logged.check(right)
        with pytest.raises(InvalidArgument):
            logged.check(wrong)
    logged = read(log("predict", x=[1.0]))
    assert logged is not None
    logged.check({"y": texts})


def test_values_are_read() -> None:
    """A logged Predict request carries its tensors, a logged Classify request a row per example."""
    call = call_of(log("predict", x=np.array([1.5, 2.5], np.float32)))
    assert call.inputs["x"].tolist() == [1.5, 2.5]
    call = call_of(log("classify", signature="classify", examples=3))
    assert call.inputs["inputs"].shape == (3,)


@pytest.mark.parametrize(
    ("made", "kind", "message"),
    [
        (log("session_run"), Unimplemented, "Unsupported log_type for warmup: 5"),
        (log("predict_streamed"), Unimplemented, "Unsupported log_type for warmup: 7"),
        (log("predict", signature="gone"), FailedPrecondition, 'Serving signature key "gone" not found.'),
        (log("predict"), InvalidArgument, "input size does not match signature: 0!=1 len({}) != len({x}). "
                                          "Sent extra: {}. Missing but required: {x}."),
        (log("predict", x=[1.0], output_filter=["y", "y"]), InvalidArgument, "duplicate output tensor alias: y"),
        (log("classify", signature="gone"), InvalidArgument, "No signature was found with the name: gone"),
        (log("regress", signature="regress"), InvalidArgument, "Input is empty."),
        (log("multi_inference"), InvalidArgument, "ModelSpec has no name specified."),
    ],
)
def test_what_cannot_be_run(made: Any, kind: type[ServingError], message: str) -> None:
    """What does not fit the signatures is refused as the request itself would be; two kinds cannot be run again."""
    with pytest.raises(kind) as caught:
        read(made)
    assert caught.value.message == message


def test_bytes_that_are_no_log() -> None:
    """Bytes that are no message say so."""
    with pytest.raises(InvalidArgument, match=r"tensorflow\.serving\.PredictionLog"):
        decode_log(b"malformed")


def test_a_call_written_as_a_log_is_read_back() -> None:
    """A log made from a call makes the same call again, and TensorFlow Serving's class reads it."""
    call = Call("serving_default", {"x": np.array([1.5], np.float32)}, ("y",))
    encoded = encode_predict_log(call)
    again = logged_call(decode_log(encoded), SIGNATURES)
    assert again is not None
    assert again.call == call
    theirs = prediction_log_pb2.PredictionLog.FromString(encoded).predict_log.request
    assert tf.make_ndarray(theirs.inputs["x"]).tolist() == [1.5]
