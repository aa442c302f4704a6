"""Classify, Regress and MultiInference requests as calls of signatures that take serialized tf.Examples.

A request becomes a query, whichever protocol it came by, and the query one call:

    query = decode_classification(request)     # or one of the others
    …the route of the servable…
    call = make_call(query, route.signatures)
    …the run…
    results = example_results.read_results(query, outputs)

Each example goes to the model as its bytes, one string per row of the signature's only input. Codes, messages and the
order of the checks are TensorFlow Serving's (classifier.cc, regressor.cc, multi_inference.cc, servables/tensorflow/
util.cc). As there by default, a signature is taken for what it looks like, not for its method name: TensorFlow 2
writes `tensorflow/serving/predict` into all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from google.protobuf import text_format

from serving_app.core.errors import InvalidArgument, Unimplemented
from serving_app.core.servable import ModelSpec
from serving_app.core.signatures import DEFAULT_SIGNATURE, Signature
from serving_app.protocol import messages
from serving_app.protocol.calls import JOINT, Call, joint_output
from serving_app.protocol.model_spec_proto import decode_spec, parse, read_spec

CLASSIFY_METHOD = "tensorflow/serving/classify"
REGRESS_METHOD = "tensorflow/serving/regress"

INPUTS = "inputs"
CLASSES = "classes"
SCORES = "scores"
REGRESSION_OUTPUTS = "outputs"


class Task(NamedTuple):
    """One question about examples: which model's signature is asked, and by which method."""

    model: str
    signature_name: str  # never empty
    method: str


@dataclass(frozen=True, slots=True)
class ExampleQuery:
    """A request about examples, read but not yet held against the signatures.

    `spec` says which servable answers it. Outside MultiInference there is exactly one task. The examples are
    serialized, each with the context merged into it; there may be none.
    """

    spec: ModelSpec
    tasks: tuple[Task, ...]
    examples: Sequence[bytes] = field(repr=False)
    is_multi: bool = False


def decode_classification(encoded: bytes) -> ExampleQuery:
    """A serialized ClassificationRequest; InvalidArgument if it is none or does not say which model it is for."""
    return _decode_single(encoded, CLASSIFY_METHOD)


def decode_regression(encoded: bytes) -> ExampleQuery:
    """A serialized RegressionRequest; InvalidArgument if it is none or does not say which model it is for."""
    return _decode_single(encoded, REGRESS_METHOD)


def decode_multi_inference(encoded: bytes) -> ExampleQuery:
    """A serialized MultiInferenceRequest; InvalidArgument if it is none.

    The model spec of the first task says which servable is meant. One without a name, or no task at all, is for the
    lookup to refuse.
    """
    request = parse(messages.SerializedMultiInferenceRequest, encoded)
    tasks = tuple(
        Task(task.model_spec.name, task.model_spec.signature_name or DEFAULT_SIGNATURE, task.method_name)
        for task in request.tasks
    )
    spec = read_spec(request.tasks[0].model_spec) if request.tasks else ModelSpec("")
    return ExampleQuery(spec, tasks, _examples_of(request.input), is_multi=True)


def make_call(
    query: ExampleQuery,
    signatures: Mapping[str, Signature],
    *,
    check_method_names: bool = False,
    timeout: float | None = None,
) -> Call:
    """The call that answers a query; InvalidArgument if it does not fit the signatures.

    MultiInference is a joint call, so that what its signatures share is computed once. Unimplemented tells of a task
    whose method is neither classify nor regress. `check_method_names` refuses signatures made for another method.
    """
    name, wanted = _plan_all(query, signatures, check_method_names) if query.is_multi else _plan_one(
        query.tasks[0], signatures, check_method_names
    )
    if not query.examples:
        raise InvalidArgument("Input is empty.")
    tensor = np.empty(len(query.examples), np.object_)
    tensor[:] = query.examples
    return Call(name, {INPUTS: tensor}, wanted, timeout)


def task_outputs(method: str, signature: Signature, check_method_names: bool = False) -> tuple[str, ...]:
    """The outputs of a signature that answer a method; InvalidArgument if the signature does not fit the method."""
    if method == CLASSIFY_METHOD:
        return _classify_outputs(signature, check_method_names)
    if method == REGRESS_METHOD:
        return _regress_outputs(signature, check_method_names)
    raise Unimplemented(f"Unsupported signature method_name: {method}")


def merge_context(context: bytes, examples: Sequence[bytes]) -> Sequence[bytes]:
    """Each example with the context before it.

    Bytes of two messages, one after the other, are the message with the fields of both, in which the latter's features
    win.
    """
    return [context + example for example in examples] if context else examples


def _decode_single(encoded: bytes, method: str) -> ExampleQuery:
    request = parse(messages.SerializedExampleRequest, encoded)
    spec = decode_spec(request)
    task = Task(spec.name, request.model_spec.signature_name or DEFAULT_SIGNATURE, method)
    return ExampleQuery(spec, (task,), _examples_of(request.input))


def _examples_of(message: Any) -> Sequence[bytes]:
    if message.WhichOneof("kind") == "example_list_with_context":
        shared = message.example_list_with_context
        return merge_context(shared.context, list(shared.examples))
    return list(message.example_list.examples)


def _plan_one(task: Task, signatures: Mapping[str, Signature], check_method_names: bool) -> tuple[str, tuple[str, ...]]:
    if task.signature_name not in signatures:
        raise InvalidArgument(f"No signature was found with the name: {task.signature_name}")
    return task.signature_name, task_outputs(task.method, signatures[task.signature_name], check_method_names)


def _plan_all(
    query: ExampleQuery, signatures: Mapping[str, Signature], check_method_names: bool
) -> tuple[str, tuple[str, ...]]:
    if not query.tasks:
        raise InvalidArgument("ModelSpec has no name specified.")
    seen: set[str] = set()
    wanted: list[str] = []
    for model, name, method in query.tasks:
        if not model:
            raise InvalidArgument("Found ModelSpec with an empty model name.")
        if model != query.tasks[0].model:
            raise InvalidArgument("All ModelSpecs in a MultiInferenceRequest must access the same model name.")
        if name in seen:
            raise InvalidArgument(f"Duplicate evaluation of signature: {name}")
        if name not in signatures:
            raise InvalidArgument(f"Requested signature not found in model graph: {name}")
        seen.add(name)
        wanted += [joint_output(name, alias) for alias in task_outputs(method, signatures[name], check_method_names)]
    return JOINT, tuple(wanted)


def _classify_outputs(signature: Signature, check_method_name: bool) -> tuple[str, ...]:
    if check_method_name and signature.method_name != CLASSIFY_METHOD:
        raise InvalidArgument(
            f"Expected classification signature method_name to be {CLASSIFY_METHOD}. Was: {signature.method_name}"
        )
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


def _regress_outputs(signature: Signature, check_method_name: bool) -> tuple[str, ...]:
    if check_method_name and signature.method_name != REGRESS_METHOD:
        raise InvalidArgument(
            f"Expected regression signature method_name to be {REGRESS_METHOD}. Was: {signature.method_name}"
        )
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
