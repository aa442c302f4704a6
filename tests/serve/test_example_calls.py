"""Classify, Regress and MultiInference at both front ends, over models that parse tf.Examples."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from tensorflow.core.example import example_pb2
from tensorflow_serving.apis import classification_pb2, inference_pb2, regression_pb2

from serving_app.core.errors import Code
from serving_app.core.servable import ModelSpec
from serving_app.protocol import grpc_methods
from serving_app.protocol.rest_status import HTTP_STATUS
from serving_app.serve.data_plane import LARGE_BYTES
from tests.serve import test_grpc_app, test_rest_app
from tests.serve.front_end_contract import Failed
from tests.serve.fronts import Front
from tests.zoo import Zoo

Rows = list[dict[str, list[float]]]

METHODS = {"classify": grpc_methods.CLASSIFY, "regress": grpc_methods.REGRESS}
CLASSIFY, REGRESS = "tensorflow/serving/classify", "tensorflow/serving/regress"
PARSER, HEADS, DICE = ModelSpec("parser"), ModelSpec("heads", 2), ModelSpec("heads", 1)
ROWS: Rows = [{"x": [1.0, 2.0]}, {"x": [-0.5, 0.25]}, {}]


def set_spec(message: Any, spec: ModelSpec, signature: str = "") -> None:
    message.name, message.signature_name = spec.name, signature
    if spec.version is not None:
        message.version.value = spec.version


def fill(message: Any, row: Mapping[str, list[float]]) -> None:
    for name, values in row.items():
        message.features.feature[name].float_list.value.extend(values)


def fill_input(message: Any, rows: Rows, context: Mapping[str, list[float]] | None = None) -> None:
    examples = message.example_list.examples if context is None else message.example_list_with_context.examples
    for row in rows:
        fill(examples.add(), row)
    if context is not None:
        fill(message.example_list_with_context.context, context)


def by_grpc(
    front: Front, verb: str, spec: ModelSpec, rows: Rows, signature: str = "", address: str = "", context: Any = None
) -> Any:
    """The results, as REST writes them."""
    is_classify = verb == "classify"
    request = classification_pb2.ClassificationRequest() if is_classify else regression_pb2.RegressionRequest()
    set_spec(request.model_spec, spec, signature)
    fill_input(request.input, rows, context)
    text = test_grpc_app.ask(address or front.grpc_address, METHODS[verb], request.SerializeToString())
    if is_classify:
        found = classification_pb2.ClassificationResponse.FromString(text)
        results = [[[each.label, each.score] for each in row.classes] for row in found.result.classifications]
    else:
        found = regression_pb2.RegressionResponse.FromString(text)
        results = [each.value for each in found.result.regressions]
    answered = found.model_spec
    assert (answered.name, answered.signature_name) == (spec.name, signature or "serving_default")
    assert answered.version.value == (spec.version or 1)
    return results


def by_rest(
    front: Front, verb: str, spec: ModelSpec, rows: Rows, signature: str = "", address: str = "", context: Any = None
) -> Any:
    """The results of the body that says the same."""
    body: dict[str, Any] = {"examples": rows}
    if signature:
        body["signature_name"] = signature
    if context is not None:
        body["context"] = context
    target = f"{test_rest_app.target_of(spec)}:{verb}"
    return test_rest_app.ask_json(address or front.rest_address, "POST", target, json.dumps(body))["results"]


Ask = Callable[..., Any]
BOTH = pytest.mark.parametrize(("ask", "numbers"), [(by_grpc, grpc_methods.GRPC_STATUS), (by_rest, HTTP_STATUS)])


def rounded(results: Any) -> Any:
    return json.loads(json.dumps(results), parse_float=lambda text: round(float(text), 4))


def fails(number: int, message: str, ask: Callable[[], Any]) -> None:
    with pytest.raises(Failed) as caught:
        ask()
    assert (caught.value.number, caught.value.message[: len(message)]) == (number, message)


@BOTH
def test_models_with_method_names_answer(front: Front, zoo: Zoo, ask: Ask, numbers: Mapping[Code, int]) -> None:
    """Classify and Regress give what TensorFlow itself computes from the same examples."""
    right = {example.signature: example.outputs for example in zoo.examples("parser")}
    scores = right["serving_default"]["scores"].tolist()
    expected = [[[label, score] for label, score in zip(("red", "green", "blue"), row, strict=True)] for row in scores]
    assert rounded(ask(front, "classify", PARSER, ROWS)) == rounded(expected)
    assert rounded(ask(front, "regress", PARSER, ROWS, "regress")) == right["regress"]["outputs"][:, 0].tolist()


@BOTH
def test_models_of_tensorflow_2_answer(front: Front, ask: Ask, numbers: Mapping[Code, int]) -> None:
    """Signatures whose method is always predict answer if they look right, whatever is missing of labels."""
    assert ask(front, "classify", HEADS, ROWS[:1]) == [[["", 2.0], ["", 3.0]]]
    assert ask(front, "regress", HEADS, ROWS, "total") == [3.0, -0.25, 0.0]
    context = {"x": [4.0, 0.5]}
    assert ask(front, "regress", HEADS, ROWS, "total", context=context) == [3.0, -0.25, 4.5]


@BOTH
@pytest.mark.parametrize(
    ("verb", "spec", "signature", "code", "message"),
    [
        ("classify", ModelSpec("nope"), "", Code.NOT_FOUND, "Servable not found for request: Latest(nope)"),
        ("classify", HEADS, "nope", Code.INVALID_ARGUMENT, "No signature was found with the name: nope"),
        ("regress", HEADS, "", Code.INVALID_ARGUMENT, "No regression outputs found in SignatureDef: inputs {"),
        ("classify", PARSER, "predict", Code.INVALID_ARGUMENT, "No classification inputs found in SignatureDef: "),
    ],
)
def test_what_does_not_fit_is_said(
    front: Front, ask: Ask, numbers: Mapping[Code, int], verb: str, spec: ModelSpec, signature: str, code: Code,
    message: str,
) -> None:
    """Servables and signatures that cannot answer are named with the same words in both protocols."""
    fails(numbers[code], message, lambda: ask(front, verb, spec, ROWS, signature))


@BOTH
def test_large_requests_are_answered(front: Front, ask: Ask, numbers: Mapping[Code, int]) -> None:
    """Requests that are read on a thread have the same answers."""
    rows = [{"x": [1.0, 2.0], "more": [0.5] * 20}] * 4096
    assert len(rows) * 20 * 4 > LARGE_BYTES
    assert ask(front, "regress", HEADS, rows, "total") == [3.0] * 4096


def test_bodies_are_read_before_the_servable_is_looked_up(front: Front) -> None:
    """What is wrong with the examples of a body counts for more than a model that is not there."""
    for body, status in ((b'{"examples": [{"x": null}]}', 400), (b'{"examples": [{}]}', 404)):
        assert test_rest_app.ask(front.rest_address, "POST", "/v1/models/nope:classify", body)[0] == status
    gone = ModelSpec("nope")
    fails(Code.NOT_FOUND, "Servable not found", lambda: by_grpc(front, "classify", gone, []))
    fails(Code.INVALID_ARGUMENT, "Input is empty.", lambda: by_grpc(front, "classify", HEADS, []))
    with pytest.raises(Failed, match="Missing ModelSpec"):
        test_grpc_app.ask(front.grpc_address, grpc_methods.REGRESS, b"")


def test_answers_are_laid_out_as_tensorflow_serving_does_it(front: Front) -> None:
    """By default the bytes are the same; the compact form has to be chosen."""
    target, body = "/v1/models/heads/versions/2:classify", b'{"examples": [{"x": [1.0, 2.0]}, {}]}'
    assert test_rest_app.ask(front.rest_address, "POST", target, body) == (
        200, b'{\n    "results": [[["", 2.0], ["", 3.0]], [["", 0.0], ["", 0.0]]\n    ]\n}'
    )


@BOTH
def test_method_names_are_checked_where_that_is_wanted(front: Front, ask: Ask, numbers: Mapping[Code, int]) -> None:
    """With check_method_names only signatures made for a method answer it."""
    if ask is by_rest:
        listener = front.rest_listener(30.0, check_method_names=True)
        address = front.run(listener.start())
    else:
        listener, address = front.run(front.start_grpc(30.0, check_method_names=True))
    try:
        assert len(ask(front, "classify", PARSER, ROWS, address=address)) == 3
        for verb, kind, signature in (("classify", "classification", ""), ("regress", "regression", "total")):
            fails(
                numbers[Code.INVALID_ARGUMENT],
                f"Expected {kind} signature method_name to be tensorflow/serving/{verb}. "
                "Was: tensorflow/serving/predict",
                lambda verb=verb, signature=signature: ask(front, verb, HEADS, ROWS, signature, address),
            )
    finally:
        front.run(listener.drain(0.0))


def infer(front: Front, spec: ModelSpec, *tasks: tuple[str, str], rows: Rows = ROWS) -> Any:
    """The response to a MultiInference of tasks (signature, method)."""
    request = inference_pb2.MultiInferenceRequest()
    for signature, method in tasks:
        task = request.tasks.add(method_name=method)
        set_spec(task.model_spec, spec, signature)
    fill_input(request.input, rows)
    answer = test_grpc_app.ask(front.grpc_address, grpc_methods.MULTI_INFERENCE, request.SerializeToString())
    return inference_pb2.MultiInferenceResponse.FromString(answer).results


def test_multi_inference_is_one_run(front: Front) -> None:
    """What signatures share is computed once: the dice that both throw show the same, for each example."""
    scores, values = infer(front, DICE, ("", CLASSIFY), ("value", REGRESS), rows=[{}] * 5)
    thrown = [row.classes[0].score for row in scores.classification_result.classifications]
    assert len(set(thrown)) == 5
    assert [each.value for each in values.regression_result.regressions] == thrown
    assert [each.model_spec.signature_name for each in (scores, values)] == ["serving_default", "value"]
    assert {(each.model_spec.name, each.model_spec.version.value) for each in (scores, values)} == {("heads", 1)}


def test_multi_inference_feeds_every_signature(front: Front) -> None:
    """Signatures with input tensors of their own get the same examples; results are in the order of the tasks."""
    lengths, scores = infer(front, DICE, ("a/length", REGRESS), ("", CLASSIFY))
    sizes = []
    for row in ROWS:
        example = example_pb2.Example()
        fill(example, row)
        sizes.append(example.ByteSize())
    assert [each.value for each in lengths.regression_result.regressions] == sizes
    assert len(scores.classification_result.classifications) == 3
    total, scores = infer(front, HEADS, ("total", REGRESS), ("", CLASSIFY))
    assert [each.value for each in total.regression_result.regressions] == [3.0, -0.25, 0.0]
    assert [each.score for each in scores.classification_result.classifications[0].classes] == [2.0, 3.0]
    (only,) = infer(front, HEADS, ("total", REGRESS))
    assert only == total


@pytest.mark.parametrize(
    ("spec", "tasks", "code", "message"),
    [
        (HEADS, [], Code.INVALID_ARGUMENT, "ModelSpec has no name specified."),
        (ModelSpec(""), [("", CLASSIFY)], Code.INVALID_ARGUMENT, "ModelSpec has no name specified."),
        (ModelSpec("heads", 9), [("", CLASSIFY)], Code.NOT_FOUND, "Servable not found for request: Specific(heads, 9)"),
        (HEADS, [("", CLASSIFY), ("", REGRESS)], Code.INVALID_ARGUMENT,
         "Duplicate evaluation of signature: serving_default"),
        (HEADS, [("", CLASSIFY), ("x", REGRESS)], Code.INVALID_ARGUMENT,
         "Requested signature not found in model graph: x"),
        (HEADS, [("", "")], Code.UNIMPLEMENTED, "Unsupported signature method_name: "),
    ],
)
def test_what_multi_inference_refuses(front: Front, spec: ModelSpec, tasks: Any, code: Code, message: str) -> None:
    """Tasks that do not fit each other or the model are refused before anything is run."""
    fails(code, message, lambda: infer(front, spec, *tasks))
