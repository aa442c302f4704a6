"""The JSON bodies of `:classify` and `:regress`: requests into queries, results into answers.

A request lists `examples`, each an object of features, and may have a `context`, an object of the features that all
examples share. What a feature is follows from how its values are written, and not from the model: `1` is an int64,
`1.0` a float, `"a"` and `{"b64": "…"}` bytes, `true` an int64. All of that is checked before the servable is looked up.
(json_tensor.cc, MakeExampleFromJsonObject)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from serving_app.core.errors import InvalidArgument
from serving_app.core.servable import ModelSpec
from serving_app.core.signatures import DEFAULT_SIGNATURE
from serving_app.protocol import json_document, json_text, messages
from serving_app.protocol.calls import Call, Outputs
from serving_app.protocol.example_requests import ExampleQuery, Task, merge_context
from serving_app.protocol.example_results import Classification, read_results
from serving_app.protocol.json_answer import Array, Style
from serving_app.protocol.json_document import encode
from serving_app.protocol.json_excerpt import excerpt, kind
from serving_app.protocol.json_numbers import number_texts
from serving_app.protocol.json_parser import JsonValue
from serving_app.protocol.json_predict import read_document
from serving_app.protocol.json_tensor import decode_base64, is_base64

_CONTEXT = "context"
_EXAMPLES = "examples"


def parse_examples(text: bytes, spec: ModelSpec, method: str) -> ExampleQuery:
    """The query in a body; InvalidArgument if it is none."""
    body = read_document(json_document.parse(text))
    members = body.members
    context = encode_example(members[_CONTEXT]) if _CONTEXT in members else b""
    if _EXAMPLES not in members:
        # TensorFlow Serving says "classify" of :regress, too.
        raise InvalidArgument(
            f"JSON Value: {excerpt(members)} When method is classify, key 'examples' is expected and was not found"
        )
    listed = members[_EXAMPLES]
    if not isinstance(listed, list):
        raise InvalidArgument(f"JSON Value: {excerpt(listed)} Expecting 'examples' value to be an list/array")
    if not listed:
        raise InvalidArgument(f"JSON Value: {excerpt(listed)} 'examples' value is an empty array")
    examples = merge_context(context, [encode_example(each) for each in listed])
    return ExampleQuery(spec, (Task(spec.name, body.signature_name or DEFAULT_SIGNATURE, method),), examples)


def encode_example(value: JsonValue) -> bytes:
    """The serialized tf.Example that an object says; InvalidArgument if it says none."""
    if not isinstance(value, dict):
        raise InvalidArgument(f"Example must be JSON object but got JSON {kind(value)}")
    example = messages.Example()
    features = example.features.feature
    for name, given in value.items():
        try:
            feature = features[name]
        except UnicodeEncodeError as error:
            raise InvalidArgument(f"Feature: {name} has a name that is not UTF-8; rename it") from error
        _fill(feature, name, given if type(given) is list else [given])
    encoded: bytes = example.SerializeToString()
    return encoded


def _fill(feature: Any, name: str, values: list[Any]) -> None:
    """Sets the values of a feature; all are of the kind of the first. Without values it has no kind."""
    types = set(map(type, values))
    if types == {float}:
        feature.float_list.value.extend(values)
    elif types == {str}:
        feature.bytes_list.value.extend(map(encode, values))
    elif types == {int} and max(values) <= _MAX_INT64:
        feature.int64_list.value.extend(values)
    else:
        _fill_exactly(feature, name, values)


_MAX_INT64 = 2**63 - 1
_KIND_NAMES = {"bytes_list": "bytes", "float_list": "float", "int64_list": "int64"}


def _fill_exactly(feature: Any, name: str, values: Iterable[Any]) -> None:
    """The same value by value, for mixtures and for what is wrong."""
    for value in values:
        kind_of_value = _kind_of(value)
        if kind_of_value is None:
            raise InvalidArgument(f"Feature: {name} has element with unexpected JSON type: {kind(value)}")
        kind_so_far = feature.WhichOneof("kind") or kind_of_value
        if kind_of_value != kind_so_far:
            raise InvalidArgument(
                f"Unexpected element type in feature: {name} expecting type: {_KIND_NAMES[kind_so_far]}"
            )
        if kind_of_value == "bytes_list":
            feature.bytes_list.value.append(encode(value) if isinstance(value, str) else decode_base64(value))
        elif kind_of_value == "float_list":
            feature.float_list.value.append(value)
        elif value > _MAX_INT64:
            raise InvalidArgument(f"Feature: {name} has uint64_t element. Only int64_t is supported.")
        else:
            feature.int64_list.value.append(int(value))


def _kind_of(value: JsonValue) -> str | None:
    """The list in which a value goes, or None if no feature can have it."""
    if isinstance(value, str) or is_base64(value):
        return "bytes_list"
    if isinstance(value, float):
        return "float_list"
    return "int64_list" if isinstance(value, int) else None  # true and false as well


def encode_results(query: ExampleQuery, call: Call, outputs: Outputs, *, style: Style) -> bytes:
    """The answer to a query; InvalidArgument if the outputs of its call are no answer.

    `exact` is laid out as rows of `:predict` are (see `json_layout`), `compact` without blanks.
    """
    (result,) = read_results(query, call, outputs)
    is_exact = style == "exact"
    separator = b", " if is_exact else b","
    numbers = number_texts if is_exact else json_text.row_texts
    rows = (
        _classification_texts(result, numbers, separator)
        if isinstance(result, Classification)
        else numbers(result.values)
    )
    if is_exact:
        return b'{\n    "results": [' + separator.join(rows) + b"\n    ]\n}"
    return b'{"results":[' + separator.join(rows) + b"]}"


def _classification_texts(
    result: Classification, numbers: Callable[[Array], list[bytes]], separator: bytes
) -> list[bytes]:
    """For each example a list of pairs: label, "" if the signature has none, and score, 0.0 if it has none."""
    given = result.scores if result.labels is None else result.labels
    assert given is not None
    examples, classes = given.shape
    labels = [b'""'] * given.size if result.labels is None else json_text.row_texts(result.labels.reshape(-1))
    scores = [b"0.0"] * given.size if result.scores is None else numbers(result.scores.reshape(-1))
    pairs = [b"[" + label + separator + score + b"]" for label, score in zip(labels, scores, strict=True)]
    starts = range(0, examples * classes, classes) if classes else (0,) * examples
    return [b"[" + separator.join(pairs[at : at + classes]) + b"]" for at in starts]
