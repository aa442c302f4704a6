"""What models say about examples, and what TensorFlow Serving's clients make of the responses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from tensorflow_serving.apis import classification_pb2, inference_pb2, regression_pb2

from serving_app.core.errors import InvalidArgument
from serving_app.core.servable import ModelSpec, ServableId
from serving_app.protocol.calls import JOINT, Call
from serving_app.protocol.example_requests import CLASSIFY_METHOD, REGRESS_METHOD, ExampleQuery, Task
from serving_app.protocol.example_results import encode_response, label_scores, read_classification

SERVABLE = ServableId("m", 7)


def texts(*shape: int) -> np.ndarray:
    return np.full(shape, b"red", np.object_)


def numbers(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    return np.arange(np.prod(shape), dtype=dtype).reshape(shape)


def answer(method: str, outputs: Mapping[str, np.ndarray], *, examples: int = 2, wanted: int | None = None) -> bytes:
    """The response to a request of one method with so many examples."""
    query = ExampleQuery(ModelSpec("m"), (Task("m", "s", method),), [b""] * examples)
    call = Call("s", {}, tuple(outputs) if wanted is None else ("y",) * wanted)
    return encode_response(query, call, SERVABLE, dict(outputs))


def classified(outputs: Mapping[str, np.ndarray], examples: int = 2) -> Any:
    return classification_pb2.ClassificationResponse.FromString(answer(CLASSIFY_METHOD, outputs, examples=examples))


def regressed(outputs: Mapping[str, np.ndarray], examples: int = 2) -> Any:
    return regression_pb2.RegressionResponse.FromString(answer(REGRESS_METHOD, outputs, examples=examples))


def pairs(result: Any) -> list[list[tuple[str, float]]]:
    return [[(each.label, each.score) for each in classes.classes] for classes in result.classifications]


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [
        ({"classes": texts(2, 2), "scores": numbers(2, 2)}, [[("red", 0), ("red", 1)], [("red", 2), ("red", 3)]]),
        ({"scores": numbers(2, 2)}, [[("", 0), ("", 1)], [("", 2), ("", 3)]]),
        ({"classes": texts(2, 1)}, [[("red", 0)], [("red", 0)]]),
        ({"scores": numbers(2, 0)}, [[], []]),
    ],
)
def test_classifications(outputs: Any, expected: Any) -> None:
    """Each example has as many classes as the outputs have columns; a label or score that is not there is a default."""
    response = classified(outputs)
    assert pairs(response.result) == label_scores(read_classification(outputs, 2)) == expected
    spec = response.model_spec
    assert (spec.name, spec.version.value, spec.signature_name, spec.version_label) == ("m", 7, "s", "")


def test_labels_that_are_no_text() -> None:
    """In Python a label is text; bytes of it that are no UTF-8 can still be told."""
    labels = np.array([[b"gr\xfcn", "grün".encode()]], np.object_)
    assert label_scores(read_classification({"classes": labels}, 1)) == [[("gr\\xfcn", 0.0), ("grün", 0.0)]]


@pytest.mark.parametrize("values", [numbers(2), numbers(2, 1)])
def test_regressions(values: np.ndarray) -> None:
    """Each example has one value, whether the output has one dimension or a second one of size 1."""
    response = regressed({"outputs": values})
    assert [each.value for each in response.result.regressions] == [0, 1]
    assert (response.model_spec.name, response.model_spec.version.value) == ("m", 7)


def test_multi_inference() -> None:
    """Each task has its own result, in order, with the model spec of its signature."""
    tasks = (Task("m", "a/b", REGRESS_METHOD), Task("m", "c", CLASSIFY_METHOD), Task("m", "d", CLASSIFY_METHOD))
    query = ExampleQuery(ModelSpec("m"), tasks, [b"", b""], is_multi=True)
    outputs = {
        "c/scores": numbers(2, 1), "d/classes": texts(2, 1), "d/scores": numbers(2, 1) + 2, "a/b/outputs": numbers(2),
    }
    call = Call(JOINT, {}, tuple(outputs))
    response = inference_pb2.MultiInferenceResponse.FromString(encode_response(query, call, SERVABLE, outputs))
    assert [each.model_spec.signature_name for each in response.results] == ["a/b", "c", "d"]
    assert {(each.model_spec.name, each.model_spec.version.value) for each in response.results} == {("m", 7)}
    first, second, third = response.results
    assert [each.value for each in first.regression_result.regressions] == [0, 1]
    assert pairs(second.classification_result) == [[("", 0)], [("", 1)]]
    assert pairs(third.classification_result) == [[("red", 2)], [("red", 3)]]
    with pytest.raises(InvalidArgument, match=r"^Expected scores output batch size of 2\. Got: 3$"):
        encode_response(query, call, SERVABLE, {**outputs, "d/scores": numbers(3, 1)})


@given(
    scores=arrays.arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(0, 4))),
    label=st.text(max_size=200),
    version=st.integers(0, 2**63 - 1),
)
def test_responses_are_those_that_protobuf_writes(scores: np.ndarray, label: str, version: int) -> None:
    """Whatever the sizes, TensorFlow Serving's classes read from the bytes what the arrays say."""
    rows, columns = scores.shape
    labels = np.full(scores.shape, label.encode(), np.object_)
    outputs = {"classes": labels, "scores": scores}
    query = ExampleQuery(ModelSpec("m"), (Task("m", "s", CLASSIFY_METHOD),), [b""] * rows)
    encoded = encode_response(query, Call("s", {}, tuple(outputs)), ServableId("m", version), outputs)
    right = classification_pb2.ClassificationResponse()
    right.model_spec.name, right.model_spec.signature_name = "m", "s"
    right.model_spec.version.value = version
    right.result.SetInParent()
    for row in range(rows):
        classes = right.result.classifications.add().classes
        for column in range(columns):
            classes.add(label=label, score=scores[row, column])
    read = classification_pb2.ClassificationResponse.FromString(encoded)
    assert read.SerializeToString(deterministic=True) == right.SerializeToString(deterministic=True)


UNFIT: list[tuple[str, dict[str, np.ndarray], str]] = [
    *(
        (CLASSIFY_METHOD, outputs, message)
        for outputs, message in (
            ({"scores": numbers(2)}, "Expected Tensor shape: [batch_size num_classes] but got [2]"),
            ({"scores": numbers()}, "Expected Tensor shape: [batch_size num_classes] but got []"),
            ({"classes": texts(2, 1, 3)}, "Expected Tensor shape: [batch_size num_classes] but got [2,1,3]"),
            ({"classes": numbers(2, 1)}, "Expected classes Tensor of DT_STRING. Got: DT_FLOAT"),
            ({"scores": texts(2, 1)}, "Expected scores Tensor of DT_FLOAT. Got: DT_STRING"),
            ({"scores": numbers(2, 1, dtype=np.float64)}, "Expected scores Tensor of DT_FLOAT. Got: DT_DOUBLE"),
            ({"classes": texts(3, 1)}, "Expected classes output batch size of 2. Got: 3"),
            ({"scores": numbers(1, 1)}, "Expected scores output batch size of 2. Got: 1"),
            (
                {"classes": texts(2, 1), "scores": numbers(2, 3)},
                "Tensors class and score should match in dim_size(1). Got 1 vs. 3",
            ),
            # Of several mistakes the first: classes before scores; the shape, the type, the number of rows.
            (
                {"classes": numbers(3), "scores": texts(4)},
                "Expected Tensor shape: [batch_size num_classes] but got [3]",
            ),
            ({"classes": numbers(3, 1), "scores": texts(4)}, "Expected classes Tensor of DT_STRING. Got: DT_FLOAT"),
            ({"classes": texts(3, 1), "scores": texts(4)}, "Expected classes output batch size of 2. Got: 3"),
            (
                {"classes": texts(2, 1), "scores": texts(4)},
                "Expected Tensor shape: [batch_size num_classes] but got [4]",
            ),
        )
    ),
    *(
        (REGRESS_METHOD, {"outputs": values}, message)
        for values, message in (
            (
                numbers(2, 2),
                "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got [2,2]",
            ),
            (numbers(), "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got []"),
            (
                numbers(2, 1, 1),
                "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got [2,1,1]",
            ),
            (numbers(3), "Input batch size did not match output batch size: 2 vs. 3"),
            (texts(2), "Expected output Tensor of DT_FLOAT.  Got: DT_STRING"),
            (numbers(2, 1, dtype=np.int64), "Expected output Tensor of DT_FLOAT.  Got: DT_INT64"),
            # The shape, the number of rows, the type.
            (texts(3), "Input batch size did not match output batch size: 2 vs. 3"),
        )
    ),
    (REGRESS_METHOD, {"y": numbers(2)}, "Could not find output tensor 'outputs'"),
]


@pytest.mark.parametrize(("method", "outputs", "message"), UNFIT)
def test_outputs_that_are_no_answer(method: str, outputs: dict[str, np.ndarray], message: str) -> None:
    """Outputs of a wrong shape, type or number of rows are refused, in TensorFlow Serving's words and order."""
    with pytest.raises(InvalidArgument) as caught:
        answer(method, outputs)
    assert caught.value.message == message


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (CLASSIFY_METHOD, "Expected 2 output tensor(s).  Got: 1"),
        (REGRESS_METHOD, "Expected output_tensors and output_tensor_names to have the same size."),
    ],
)
def test_a_runtime_that_forgets_an_output(method: str, message: str) -> None:
    """Fewer outputs than were asked for are no answer."""
    with pytest.raises(InvalidArgument) as caught:
        answer(method, {"scores": numbers(2, 1)}, wanted=2)
    assert caught.value.message == message


def test_labels_go_out_as_they_are() -> None:
    """A label that is not UTF-8 is on the wire as the model gave it; what a client makes of that is its affair."""
    labels = np.array([[b"\xff\xfe"]], np.object_)
    assert b"\x0a\x02\xff\xfe" in answer(CLASSIFY_METHOD, {"classes": labels}, examples=1)
