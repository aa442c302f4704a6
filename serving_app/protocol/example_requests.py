"""Classify, Regress and MultiInference requests as calls of signatures that take serialized tf.Examples.

Each example goes to the model as its bytes, one string per row of the signature's only input. Codes, messages and the
order of the checks are TensorFlow Serving's (classifier.cc, regressor.cc, multi_inference.cc, servables/tensorflow/
util.cc). As there by default, a signature is taken for what it looks like, not for its method name: TensorFlow 2
writes `tensorflow/serving/predict` into all of them.

MultiInference becomes one call per task. TensorFlow Serving computes all in one run, which makes no difference to a
model without state.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from google.protobuf import text_format

from serving_app.core.errors import InvalidArgument, Unimplemented
from serving_app.core.signatures import DEFAULT_SIGNATURE, Signature
from serving_app.protocol import messages
from serving_app.protocol.calls import Call
from serving_app.protocol.tensor_proto import Array

CLASSIFY_METHOD = "tensorflow/serving/classify"
REGRESS_METHOD = "tensorflow/serving/regress"

INPUTS = "inputs"
CLASSES = "classes"
SCORES = "scores"
REGRESSION_OUTPUTS = "outputs"


def classify_call(request: Any, signatures: Mapping[str, Signature]) -> Call:
    """The call that a ClassificationRequest asks for; InvalidArgument if request and signature do not fit."""
    name = request.model_spec.signature_name or DEFAULT_SIGNATURE
    outputs = _classify_outputs(_find_signature(signatures, name))
    return Call(name, {INPUTS: examples_tensor(request.input)}, outputs)


def regress_call(request: Any, signatures: Mapping[str, Signature]) -> Call:
    """The call that a RegressionRequest asks for; InvalidArgument if request and signature do not fit."""
    name = request.model_spec.signature_name or DEFAULT_SIGNATURE
    outputs = _regress_outputs(_find_signature(signatures, name))
    return Call(name, {INPUTS: examples_tensor(request.input)}, outputs)


def multi_inference_calls(request: Any, signatures: Mapping[str, Signature]) -> tuple[Call, ...]:
    """A call per task of a MultiInferenceRequest, in order.

    InvalidArgument, or Unimplemented for an unknown method, if the tasks do not fit each other or their signatures.
    """
    if not request.tasks:
        raise InvalidArgument("ModelSpec has no name specified.")
    wanted: dict[str, tuple[str, ...]] = {}
    for task in request.tasks:
        if not task.model_spec.name:
            raise InvalidArgument("Found ModelSpec with an empty model name.")
        if task.model_spec.name != request.tasks[0].model_spec.name:
            raise InvalidArgument("All ModelSpecs in a MultiInferenceRequest must access the same model name.")
        name = task.model_spec.signature_name or DEFAULT_SIGNATURE
        if name in wanted:
            raise InvalidArgument(f"Duplicate evaluation of signature: {name}")
        if name not in signatures:
            raise InvalidArgument(f"Requested signature not found in model graph: {name}")
        wanted[name] = _task_outputs(task.method_name, signatures[name])
    examples = examples_tensor(request.input)
    return tuple(Call(name, {INPUTS: examples}, outputs) for name, outputs in wanted.items())


def examples_tensor(message: Any) -> Array:
    """The examples of an Input, serialized, one per row; InvalidArgument if there are none.

    A context goes before each example: bytes of two messages, one after the other, are the message with the fields of
    both, in which the latter's features win.
    """
    context = b""
    examples = message.example_list.examples
    if message.WhichOneof("kind") == "example_list_with_context":
        context = message.example_list_with_context.context.SerializeToString()
        examples = message.example_list_with_context.examples
    if not examples:
        raise InvalidArgument("Input is empty.")
    tensor = np.empty(len(examples), np.object_)
    tensor[:] = [context + example.SerializeToString() for example in examples]
    return tensor


def _find_signature(signatures: Mapping[str, Signature], name: str) -> Signature:
    if name not in signatures:
        raise InvalidArgument(f"No signature was found with the name: {name}")
    return signatures[name]


def _task_outputs(method: str, signature: Signature) -> tuple[str, ...]:
    if method == CLASSIFY_METHOD:
        return _classify_outputs(signature)
    if method == REGRESS_METHOD:
        return _regress_outputs(signature)
    raise Unimplemented(f"Unsupported signature method_name: {method}")


def _classify_outputs(signature: Signature) -> tuple[str, ...]:
    if len(signature.inputs) != 1:
        raise InvalidArgument("Expected one input Tensor.")
    if len(signature.outputs) not in (1, 2):
        raise InvalidArgument(f"Expected one or two output Tensors, found {len(signature.outputs)}")
    if INPUTS not in signature.inputs:
        raise InvalidArgument(f"No classification inputs found in SignatureDef: {_as_text(signature)}")
    outputs = tuple(alias for alias in (CLASSES, SCORES) if alias in signature.outputs)
    if not outputs:
        raise InvalidArgument(
            'Expected classification signature outputs to contain at least one of "classes" or "scores". '
            f"Signature was: {_as_text(signature)}"
        )
    return outputs


def _regress_outputs(signature: Signature) -> tuple[str, ...]:
    if len(signature.inputs) != 1:
        raise InvalidArgument("Expected one input Tensor.")
    if len(signature.outputs) != 1:
        raise InvalidArgument("Expected one output Tensor.")
    if INPUTS not in signature.inputs:
        raise InvalidArgument(f"No regression inputs found in SignatureDef: {_as_text(signature)}")
    if REGRESSION_OUTPUTS not in signature.outputs:
        raise InvalidArgument(f"No regression outputs found in SignatureDef: {_as_text(signature)}")
    return (REGRESSION_OUTPUTS,)


def _as_text(signature: Signature) -> str:
    text: str = text_format.MessageToString(messages.SignatureDef.FromString(signature.encoded))
    return text
