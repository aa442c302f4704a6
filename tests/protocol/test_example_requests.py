"""Classify, Regress and MultiInference requests as calls, with TensorFlow Serving's codes and messages."""

from __future__ import annotations

from typing import Any

import pytest
from tensorflow_serving.apis import classification_pb2, inference_pb2, input_pb2, regression_pb2

from serving_app.core.errors import InvalidArgument, ServingError, Unimplemented
from serving_app.core.signatures import DType, Signature, TensorSpec
from serving_app.protocol import messages
from serving_app.protocol.calls import Call
from serving_app.protocol.example_requests import classify_call, examples_tensor, multi_inference_calls, regress_call
from serving_app.protocol.signature_proto import make_signature

TEXTS, FLOATS = TensorSpec("t:0", DType.STRING, (-1,)), TensorSpec("s:0", DType.FLOAT, (-1, 3))


def signature(inputs: str, outputs: str) -> Signature:
    """A signature with these inputs and outputs, of TensorFlow 2: its method says nothing."""
    return make_signature(dict.fromkeys(inputs.split(), TEXTS), dict.fromkeys(outputs.split(), FLOATS))


SIGNATURES = {
    "serving_default": signature("inputs", "classes scores"),
    "classes": signature("inputs", "classes"),
    "scores": signature("inputs", "scores"),
    "scores_and_more": signature("inputs", "scores more"),
    "regress": signature("inputs", "outputs"),
    "two_inputs": signature("inputs more", "scores"),
    "no_inputs": signature("", "outputs"),
    "other_input": signature("x", "outputs"),
    "three_outputs": signature("inputs", "classes scores more"),
    "other_output": signature("inputs", "y"),
}

ONE, TWO = {"x": 1.0}, {"x": 2.0, "y": 3.0}


def fill(example: Any, features: dict[str, float]) -> None:
    """Sets the features of an Example."""
    for name, value in features.items():
        example.features.feature[name].float_list.value.append(value)


def input_of(*rows: dict[str, float], context: dict[str, float] | None = None) -> Any:
    """An Input as a client of TensorFlow Serving's package makes it."""
    made = input_pb2.Input()
    examples = made.example_list.examples if context is None else made.example_list_with_context.examples
    for row in rows:
        fill(examples.add(), row)
    if context is not None:
        fill(made.example_list_with_context.context, context)
    return made


def ours(message: Any) -> Any:
    """The same message of our own class."""
    return messages.message_class(message.DESCRIPTOR.full_name).FromString(message.SerializeToString())


def classification(name: str = "", given: Any = None) -> Any:
    """A ClassificationRequest; by default with two examples."""
    request = classification_pb2.ClassificationRequest(input=given or input_of(ONE, TWO))
    request.model_spec.signature_name = name
    return ours(request)


def regression(name: str = "", given: Any = None) -> Any:
    """A RegressionRequest; by default with two examples."""
    request = regression_pb2.RegressionRequest(input=given or input_of(ONE, TWO))
    request.model_spec.signature_name = name
    return ours(request)


def multi(*tasks: tuple[str, str, str], given: Any = None) -> Any:
    """A MultiInferenceRequest of tasks (model, signature, method)."""
    request = inference_pb2.MultiInferenceRequest(input=given or input_of(ONE, TWO))
    for model, name, method in tasks:
        task = request.tasks.add(method_name=f"tensorflow/serving/{method}")
        task.model_spec.name, task.model_spec.signature_name = model, name
    return ours(request)


def rows(call: Call) -> list[dict[str, float]]:
    """The features of each example that a call carries."""
    (array,) = call.inputs.values()
    assert array.ndim == 1
    found = []
    for encoded in array:
        features = messages.Example.FromString(encoded).features.feature
        found.append({name: features[name].float_list.value[-1] for name in features})
    return found


@pytest.mark.parametrize(
    ("name", "ran", "outputs"),
    [
        ("", "serving_default", ("classes", "scores")),
        ("classes", "classes", ("classes",)),
        ("scores", "scores", ("scores",)),
        ("scores_and_more", "scores_and_more", ("scores",)),
    ],
)
def test_classify(name: str, ran: str, outputs: tuple[str, ...]) -> None:
    """Classify feeds the examples, one per row, and asks for classes and scores as far as there are any."""
    call = classify_call(classification(name), SIGNATURES)
    assert (call.signature_name, call.outputs) == (ran, outputs)
    assert rows(call) == [ONE, TWO]


def test_regress() -> None:
    """Regress feeds the examples, one per row, and asks for the only output."""
    call = regress_call(regression("regress"), SIGNATURES)
    assert (call.signature_name, call.outputs) == ("regress", ("outputs",))
    assert rows(call) == [ONE, TWO]


def test_multi_inference() -> None:
    """Each task becomes a call, in order, with the same examples."""
    calls = multi_inference_calls(multi(("m", "regress", "regress"), ("m", "", "classify")), SIGNATURES)
    assert [(call.signature_name, call.outputs) for call in calls] == [
        ("regress", ("outputs",)), ("serving_default", ("classes", "scores"))
    ]
    assert all(rows(call) == [ONE, TWO] for call in calls)


@pytest.mark.parametrize(
    ("context", "expected"),
    [
        ({}, [ONE, TWO]),
        ({"z": 9.0}, [{**ONE, "z": 9.0}, {**TWO, "z": 9.0}]),
        ({"y": 8.0}, [{**ONE, "y": 8.0}, TWO]),
    ],
)
def test_a_context_holds_for_every_example(context: dict[str, float], expected: list[dict[str, float]]) -> None:
    """Each example has the features of the context, but for those that it has itself."""
    assert rows(classify_call(classification("", input_of(ONE, TWO, context=context)), SIGNATURES)) == expected


@pytest.mark.parametrize("given", [input_pb2.Input(), input_of(context={"z": 1.0})])
def test_no_examples(given: Any) -> None:
    """An Input of no kind, or without examples, is empty, whether there is a context or not."""
    with pytest.raises(InvalidArgument, match=r"^Input is empty\.$"):
        examples_tensor(ours(given))
    empty_list = input_pb2.Input()
    empty_list.example_list.SetInParent()
    for given_none in (given, empty_list):
        with pytest.raises(InvalidArgument, match=r"^Input is empty\.$"):
            regress_call(regression("regress", given_none), SIGNATURES)


UNFIT = [
    (classify_call, classification("gone"), "No signature was found with the name: gone"),
    (classify_call, classification("two_inputs"), "Expected one input Tensor."),
    (classify_call, classification("no_inputs"), "Expected one input Tensor."),
    (classify_call, classification("three_outputs"), "Expected one or two output Tensors, found 3"),
    (classify_call, classification("other_input"), "No classification inputs found in SignatureDef: inputs {"),
    (
        classify_call,
        classification("other_output"),
        'Expected classification signature outputs to contain at least one of "classes" or "scores". '
        "Signature was: inputs {",
    ),
    (regress_call, regression("gone"), "No signature was found with the name: gone"),
    (regress_call, regression("two_inputs"), "Expected one input Tensor."),
    (regress_call, regression(), "Expected one output Tensor."),
    (regress_call, regression("other_input"), "No regression inputs found in SignatureDef: inputs {"),
    (regress_call, regression("other_output"), "No regression outputs found in SignatureDef: inputs {"),
    (multi_inference_calls, multi(), "ModelSpec has no name specified."),
    (multi_inference_calls, multi(("", "", "classify")), "Found ModelSpec with an empty model name."),
    (
        multi_inference_calls,
        multi(("m", "", "classify"), ("n", "regress", "regress")),
        "All ModelSpecs in a MultiInferenceRequest must access the same model name.",
    ),
    (
        multi_inference_calls,
        multi(("m", "", "classify"), ("m", "serving_default", "classify")),
        "Duplicate evaluation of signature: serving_default",
    ),
    (multi_inference_calls, multi(("m", "gone", "classify")), "Requested signature not found in model graph: gone"),
    (multi_inference_calls, multi(("m", "regress", "classify")), "Expected classification signature outputs to "),
    (
        multi_inference_calls,
        multi(("m", "regress", "predict")),
        "Unsupported signature method_name: tensorflow/serving/predict",
    ),
    (multi_inference_calls, multi(("m", "", "classify"), given=input_pb2.Input()), "Input is empty."),
]


@pytest.mark.parametrize(("make", "request_", "message"), UNFIT)
def test_what_does_not_fit(make: Any, request_: Any, message: str) -> None:
    """A request that does not fit its signature is refused with TensorFlow Serving's words."""
    with pytest.raises(ServingError) as caught:
        make(request_, SIGNATURES)
    assert caught.value.message.startswith(message)
    assert message.endswith(("{", " ")) or caught.value.message == message
    assert type(caught.value) is (Unimplemented if "Unsupported" in message else InvalidArgument)


def test_the_signature_is_checked_before_the_examples() -> None:
    """Of two mistakes the signature's is told, as in TensorFlow Serving."""
    with pytest.raises(InvalidArgument, match=r"^Expected one input Tensor\.$"):
        classify_call(classification("two_inputs", input_pb2.Input()), SIGNATURES)
