"""What a model said about examples: outputs of a run to results, results to gRPC's responses.

A model may give anything; what reaches a client is one result per example, with the types and sizes that the protocol
promises. Codes, messages and the order of the checks are TensorFlow Serving's (classifier.cc, regressor.cc).

Responses are written byte by byte. There are as many small messages in them as examples times classes, and protobuf's
Python takes four times as long to fill them; and a label that is not UTF-8 goes out as the model gave it, as there.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any, NamedTuple

from serving_app.core.errors import InvalidArgument
from serving_app.core.servable import ServableId
from serving_app.protocol import dtypes, messages
from serving_app.protocol.calls import Call, Outputs, joint_output
from serving_app.protocol.example_requests import (
    CLASSES,
    CLASSIFY_METHOD,
    REGRESSION_OUTPUTS,
    SCORES,
    ExampleQuery,
    Task,
)
from serving_app.protocol.model_spec_proto import encode_spec
from serving_app.protocol.tensor_proto import Array


class Classification(NamedTuple):
    """For each example (row) some classes (columns): their labels, their scores. None is what the signature lacks."""

    labels: Array | None
    scores: Array | None


class Regression(NamedTuple):
    """A value for each example, in one dimension."""

    values: Array


Result = Classification | Regression


def read_results(query: ExampleQuery, call: Call, outputs: Outputs) -> list[Result]:
    """A result per task, in order; InvalidArgument if the outputs of one are no answer to its method."""
    wanted = len(call.outputs or ())
    if len(outputs) != wanted:  # a runtime's mistake
        if query.tasks[0].method == CLASSIFY_METHOD:
            raise InvalidArgument(f"Expected {wanted} output tensor(s).  Got: {len(outputs)}")
        raise InvalidArgument("Expected output_tensors and output_tensor_names to have the same size.")
    examples = len(query.examples)
    if query.is_multi:
        return [_read(task, _own(task, outputs), examples) for task in query.tasks]
    return [_read(query.tasks[0], outputs, examples)]


def _own(task: Task, outputs: Outputs) -> Outputs:
    """The outputs of one task of a joint call."""
    names = {alias: joint_output(task.signature_name, alias) for alias in (CLASSES, SCORES, REGRESSION_OUTPUTS)}
    return {alias: outputs[name] for alias, name in names.items() if name in outputs}


def _read(task: Task, outputs: Outputs, examples: int) -> Result:
    if task.method == CLASSIFY_METHOD:
        return read_classification(outputs, examples)
    return read_regression(outputs, examples)


def read_classification(outputs: Mapping[str, Array], examples: int) -> Classification:
    """What was found about so many examples."""
    labels, scores = outputs.get(CLASSES), outputs.get(SCORES)
    if labels is not None:
        _check_classes(CLASSES, labels, "DT_STRING", examples)
    if scores is not None:
        _check_classes(SCORES, scores, "DT_FLOAT", examples)
    if labels is not None and scores is not None and labels.shape[1] != scores.shape[1]:
        raise InvalidArgument(
            f"Tensors class and score should match in dim_size(1). Got {labels.shape[1]} vs. {scores.shape[1]}"
        )
    return Classification(labels, scores)


def read_regression(outputs: Mapping[str, Array], examples: int) -> Regression:
    """The values of so many examples."""
    values = outputs.get(REGRESSION_OUTPUTS)
    if values is None:
        raise InvalidArgument(f"Could not find output tensor '{REGRESSION_OUTPUTS}'")
    if values.ndim != 1 and not (values.ndim == 2 and values.shape[1] == 1):
        raise InvalidArgument(
            "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got "
            f"{_shape_text(values)}"
        )
    if values.shape[0] != examples:
        raise InvalidArgument(f"Input batch size did not match output batch size: {examples} vs. {values.shape[0]}")
    dtype = _dtype_name(values)
    if dtype != "DT_FLOAT":
        raise InvalidArgument(f"Expected output Tensor of DT_FLOAT.  Got: {dtype}")
    return Regression(values.reshape(-1))


def _check_classes(alias: str, array: Array, expected: str, examples: int) -> None:
    if array.ndim != 2:
        raise InvalidArgument(f"Expected Tensor shape: [batch_size num_classes] but got {_shape_text(array)}")
    dtype = _dtype_name(array)
    if dtype != expected:
        raise InvalidArgument(f"Expected {alias} Tensor of {expected}. Got: {dtype}")
    if array.shape[0] != examples:
        raise InvalidArgument(f"Expected {alias} output batch size of {examples}. Got: {array.shape[0]}")


def _shape_text(array: Array) -> str:
    return "[" + ",".join(map(str, array.shape)) + "]"


def _dtype_name(array: Array) -> str:
    return dtypes.from_numpy(array.dtype).proto_name


def label_scores(found: Classification) -> list[list[tuple[str, float]]]:
    """For each example its classes, as Python has them: label, "" if the model has none, and score, 0.0 if it has none.

    Bytes of a label that are no UTF-8 are written with backslashes.
    """
    given = found.scores if found.labels is None else found.labels
    assert given is not None
    labels = [[""] * given.shape[1]] * len(given) if found.labels is None else found.labels.tolist()
    scores = [[0.0] * given.shape[1]] * len(given) if found.scores is None else found.scores.tolist()
    return [
        [(_raw(label).decode(errors="backslashreplace"), score) for label, score in zip(*row, strict=True)]
        for row in zip(labels, scores, strict=True)
    ]


# --- responses -------------------------------------------------------------------------------------------------------


def encode_response(query: ExampleQuery, call: Call, servable: ServableId, outputs: Outputs) -> bytes:
    """The response to a query that this servable answered; InvalidArgument if the outputs of its call are no answer."""
    results = read_results(query, call, outputs)
    if not query.is_multi:
        return _answer(_RESULT, results[0]) + _spec(_RESPONSE_SPEC, servable, query.tasks[0])
    parts = []
    for task, result in zip(query.tasks, results, strict=True):
        field = _CLASSIFICATION if isinstance(result, Classification) else _REGRESSION
        parts.append(_delimited(_RESULT, _spec(_TASK_SPEC, servable, task) + _answer(field, result)))
    return b"".join(parts)


def _tag(number: int, wire_type: int) -> bytes:
    """How a field begins, for the numbers below 16."""
    return bytes(((number << 3) | wire_type,))


_DELIMITED, _FIXED32 = 2, 5
_RESULT = _tag(1, _DELIMITED)  # of all three responses, there the only one or a repeated one
_RESPONSE_SPEC = _tag(2, _DELIMITED)
_TASK_SPEC = _tag(1, _DELIMITED)
_CLASSIFICATION, _REGRESSION = _tag(2, _DELIMITED), _tag(3, _DELIMITED)  # of an InferenceResult
_ELEMENT = _tag(1, _DELIMITED)  # of both kinds of results, and of Classifications
_LABEL, _SCORE = _tag(1, _DELIMITED), _tag(2, _FIXED32)
_VALUE = _tag(1, _FIXED32)

_SHORT = 128
_LENGTHS = [bytes((length,)) for length in range(_SHORT)]
_float32 = struct.Struct("<f").pack


def _delimited(tag: bytes, body: bytes) -> bytes:
    return tag + _length(len(body)) + body


def _length(number: int) -> bytes:
    if number < _SHORT:
        return _LENGTHS[number]
    groups = bytearray()
    while number >= _SHORT:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    groups.append(number)
    return bytes(groups)


def _spec(tag: bytes, servable: ServableId, task: Task) -> bytes:
    message = messages.ModelSpec()
    encode_spec(message, servable.name, servable.version, task.signature_name)
    return _delimited(tag, message.SerializeToString())


def _answer(tag: bytes, result: Result) -> bytes:
    if isinstance(result, Regression):
        prefix = _ELEMENT + _LENGTHS[5] + _VALUE
        return _delimited(tag, b"".join([prefix + _float32(value) for value in result.values.tolist()]))
    rows = [_delimited(_ELEMENT, b"".join(classes)) for classes in _classes(result)]
    return _delimited(tag, b"".join(rows))


def _classes(result: Classification) -> list[list[bytes]]:
    """The Class messages of each example. A label or score that the signature lacks is left out, which is a default."""
    labels, scores = result
    if labels is None and scores is None:
        return []
    if labels is None:
        assert scores is not None
        prefix = _ELEMENT + _LENGTHS[5] + _SCORE
        return [[prefix + _float32(score) for score in row] for row in scores.tolist()]
    if scores is None:
        return [[_delimited(_ELEMENT, _delimited(_LABEL, _raw(label))) for label in row] for row in labels.tolist()]
    pairs = zip(labels.tolist(), scores.tolist(), strict=True)
    return [[_class(label, score) for label, score in zip(*pair, strict=True)] for pair in pairs]


def _class(label: Any, score: float) -> bytes:
    raw = _raw(label)
    size = len(raw)
    if size < _SHORT - 7:
        return b"\n%c\n%c%b\x15%b" % (size + 7, size, raw, _float32(score))
    return _delimited(_ELEMENT, _delimited(_LABEL, raw) + _SCORE + _float32(score))


def _raw(label: bytes | str) -> bytes:
    return label if type(label) is bytes else str(label).encode()
