"""Classify, Regress and MultiInference requests as calls, with TensorFlow Serving's codes and messages."""

from __future__ import annotations

from typing import Any

import pytest
from tensorflow_serving.apis import classification_pb2, inference_pb2, input_pb2, regression_pb2

from serving_app.core.errors import InvalidArgument, ServingError, Unimplemented
from serving_app.core.servable import ModelSpec
from serving_app.core.signatures import DType, Signature, TensorSpec
from serving_app.protocol import messages
from serving_app.protocol.calls import JOINT, Call, joint_parts
from serving_app.protocol.example_requests import (
    decode_classification,
    decode_multi_inference,
    decode_regression,
    make_call,
)
from serving_app.protocol.signature_proto import make_signature

TEXTS, FLOATS = TensorSpec("t:0", DType.STRING, (-1,)), TensorSpec("s:0", DType.FLOAT, (-1, 3))


def signature(inputs: str, outputs: str) -> Signature:
    """A signature with these inputs and outputs, of TensorFlow 2: its method says nothing."""
    return make_signature(dict.fromkeys(inputs.split(), TEXTS), dict.fromkeys(outputs.split(), FLOATS))


SIGNATURES = {
    "serving_default": signature("inputs", "classes scores"),
    "classes": signature("inputs", "classes"),
    "a/b": signature("inputs", "scores"),
    "scores": signature("inputs", "scores"),
    "scores_and_more": signature("inputs", "scores more"),
    "regress": signature("inputs", "outputs"),
    "old_classify": make_signature({"inputs": TEXTS}, {"scores": FLOATS}, "tensorflow/serving/classify"),
    "old_regress": make_signature({"inputs": TEXTS}, {"outputs": FLOATS}, "tensorflow/serving/regress"),
    "two_inputs": signature("inputs more", "scores"),
    "no_inputs": signature("", "outputs"),
    "other_input": signature("x", "outputs"),
    "three_outputs": signature("inputs", "classes scores more"),
    "other_output": signature("inputs", "y"),
}

CLASSIFY = ("m", "", "classify")

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


def classify(name: str = "", given: Any = None, **options: Any) -> Call:
    """The call of a ClassificationRequest; by default with two examples."""
    request = classification_pb2.ClassificationRequest(input=given or input_of(ONE, TWO))
    request.model_spec.signature_name = name
    return make_call(decode_classification(request.SerializeToString()), SIGNATURES, **options)


def regress(name: str = "", given: Any = None, **options: Any) -> Call:
    """The call of a RegressionRequest; by default with two examples."""
    request = regression_pb2.RegressionRequest(input=given or input_of(ONE, TWO))
    request.model_spec.signature_name = name
    return make_call(decode_regression(request.SerializeToString()), SIGNATURES, **options)


def multi(*tasks: tuple[str, str, str], given: Any = None, **options: Any) -> Call:
    """The call of a MultiInferenceRequest of tasks (model, signature, method)."""
    request = inference_pb2.MultiInferenceRequest(input=given or input_of(ONE, TWO))
    for model, name, method in tasks:
        task = request.tasks.add(method_name=f"tensorflow/serving/{method}")
        task.model_spec.name, task.model_spec.signature_name = model, name
    return make_call(decode_multi_inference(request.SerializeToString()), SIGNATURES, **options)


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
    call = classify(name)
    assert (call.signature_name, call.outputs) == (ran, outputs)
    assert rows(call) == [ONE, TWO]


def test_regress() -> None:
    """Regress feeds the examples, one per row, and asks for the only output."""
    call = regress("regress")
    assert (call.signature_name, call.outputs) == ("regress", ("outputs",))
    assert rows(call) == [ONE, TWO]


def test_multi_inference() -> None:
    """All tasks are one call of their signatures, in order, with the examples."""
    call = multi(("m", "regress", "regress"), ("m", "", "classify"), ("m", "a/b", "classify"))
    assert call.signature_name == JOINT
    assert list(joint_parts(call.outputs or ()).items()) == [
        ("regress", ("outputs",)), ("serving_default", ("classes", "scores")), ("a/b", ("scores",))
    ]
    assert rows(call) == [ONE, TWO]


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
    assert rows(classify("", input_of(ONE, TWO, context=context))) == expected


EMPTY_LIST = input_pb2.Input()
EMPTY_LIST.example_list.SetInParent()


@pytest.mark.parametrize("given", [input_pb2.Input(), EMPTY_LIST, input_of(context={"z": 1.0})])
def test_no_examples(given: Any) -> None:
    """An Input of no kind, or without examples, is empty, whether there is a context or not."""
    for ask in (lambda: classify("", given), lambda: regress("regress", given), lambda: multi(CLASSIFY, given=given)):
        with pytest.raises(InvalidArgument, match=r"^Input is empty\.$"):
            ask()


UNFIT = [
    (lambda: classify("gone"), "No signature was found with the name: gone"),
    (lambda: classify("two_inputs"), "Expected one input Tensor."),
    (lambda: classify("no_inputs"), "Expected one input Tensor."),
    (lambda: classify("three_outputs"), "Expected one or two output Tensors, found 3"),
    (lambda: classify("other_input"), "No classification inputs found in SignatureDef: inputs {"),
    (
        lambda: classify("other_output"),
        'Expected classification signature outputs to contain at least one of "classes" or "scores". '
        "Signature was: inputs {",
    ),
    (lambda: regress("gone"), "No signature was found with the name: gone"),
    (lambda: regress("two_inputs"), "Expected one input Tensor."),
    (lambda: regress(), "Expected one output Tensor."),
    (lambda: regress("other_input"), "No regression inputs found in SignatureDef: inputs {"),
    (lambda: regress("other_output"), "No regression outputs found in SignatureDef: inputs {"),
    (lambda: multi(), "ModelSpec has no name specified."),
    (lambda: multi(("", "", "classify")), "Found ModelSpec with an empty model name."),
    (
        lambda: multi(("m", "", "classify"), ("n", "regress", "regress")),
        "All ModelSpecs in a MultiInferenceRequest must access the same model name.",
    ),
    (
        lambda: multi(("m", "", "classify"), ("m", "serving_default", "classify")),
        "Duplicate evaluation of signature: serving_default",
    ),
    (lambda: multi(("m", "gone", "classify")), "Requested signature not found in model graph: gone"),
    (lambda: multi(("m", "regress", "classify")), "Expected classification signature outputs to "),
    (
        lambda: multi(("m", "regress", "predict")),
        "Unsupported signature method_name: tensorflow/serving/predict",
    ),
    (lambda: multi(("m", "", "classify"), given=input_pb2.Input()), "Input is empty."),
]


@pytest.mark.parametrize(("ask", "message"), UNFIT)
def test_what_does_not_fit(ask: Any, message: str) -> None:
    """A request that does not fit its signature is refused with TensorFlow Serving's words."""
    with pytest.raises(ServingError) as caught:
        ask()
    assert caught.value.message.startswith(message)
    assert message.endswith(("{", " ")) or caught.value.message == message
    assert type(caught.value) is (Unimplemented if "Unsupported" in message else InvalidArgument)


def test_the_signature_is_checked_before_the_examples() -> None:
    """Of two mistakes the signature's is told, as in TensorFlow Serving."""
    with pytest.raises(InvalidArgument, match=r"^Expected one input Tensor\.$"):
        classify("two_inputs", input_pb2.Input())


@pytest.mark.parametrize("ask", [classify, regress])
def test_method_names_are_checked_where_that_is_wanted(ask: Any) -> None:
    """With the check a signature answers only the method that it was made for, and this is said before all else."""
    method = "classification" if ask is classify else "regression"
    with pytest.raises(InvalidArgument) as caught:
        ask("two_inputs", check_method_names=True)
    assert caught.value.message == (
        f"Expected {method} signature method_name to be tensorflow/serving/{ask.__name__}. "
        "Was: tensorflow/serving/predict"
    )
    with pytest.raises(InvalidArgument, match=r"^Expected classification signature method_name to be "):
        multi(CLASSIFY, check_method_names=True)
    assert ask("old_" + ask.__name__, check_method_names=True).inputs


def test_which_servable_is_meant() -> None:
    """Classify and Regress must say it; of MultiInference's tasks the first one says it, or the lookup complains."""
    request = classification_pb2.ClassificationRequest(input=input_of(ONE))
    for decode in (decode_classification, decode_regression):
        with pytest.raises(InvalidArgument, match=r"^Missing ModelSpec$"):
            decode(request.SerializeToString())
    request.model_spec.name = "m"
    request.model_spec.version.value = 0
    assert decode_classification(request.SerializeToString()).spec == ModelSpec("m", 0)
    tasks = inference_pb2.MultiInferenceRequest()
    assert decode_multi_inference(tasks.SerializeToString()).spec == ModelSpec("")
    tasks.tasks.add()
    assert decode_multi_inference(tasks.SerializeToString()).spec == ModelSpec("")
    tasks.tasks.add().model_spec.version.value = 2
    tasks.tasks[0].model_spec.name = "m"
    tasks.tasks[0].model_spec.version_label = "stable"
    assert decode_multi_inference(tasks.SerializeToString()).spec == ModelSpec("m", label="stable")


@pytest.mark.parametrize("decode", [decode_classification, decode_regression, decode_multi_inference])
def test_bytes_that_are_no_request(decode: Any) -> None:
    """Bytes that are no message are refused, and it is said what they should be."""
    with pytest.raises(InvalidArgument, match=r"^The request is no "):
        decode(b"\xff\xff this is no message")


def test_examples_are_passed_on_as_they_came() -> None:
    """The bytes of an example reach the model unread: what is wrong in them is for the model to say."""
    request = messages.SerializedExampleRequest()
    request.model_spec.name = "m"
    request.input.example_list.examples.append(b"\xff no example")
    query = decode_classification(request.SerializeToString())
    assert query.examples == [b"\xff no example"]
