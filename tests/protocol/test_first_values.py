"""The first value of an input, looked for before it is known which signature the request means."""

from __future__ import annotations

import json
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from serving_app.core.errors import InvalidArgument
from serving_app.protocol import messages
from serving_app.protocol.first_values import first_of_body, first_of_examples, first_of_given, first_of_inputs
from serving_app.protocol.json_examples import encode_example
from serving_app.protocol.json_predict import parse_predict
from serving_app.protocol.tensor_proto import decode_first, decode_tensor, encode_tensor_into


@pytest.mark.parametrize(
    ("body", "value"),
    [
        ({"inputs": {"user": ["ada"], "x": [1.0]}}, "ada"),
        ({"inputs": {"user": "ada"}}, "ada"),
        ({"inputs": {"user": [[7, 8]]}}, "7"),
        ({"inputs": {"user": [{"b64": "YWRh"}]}}, "ada"),
        ({"inputs": {"user": {"b64": "YWRh"}}}, "ada"),
        ({"inputs": {"b64": "YWRh"}}, "ada"),
        ({"inputs": ["ada", "grace"]}, "ada"),
        ({"instances": [{"user": "ada"}, {"user": "grace"}]}, "ada"),
        ({"instances": [{"user": 2.5}]}, "2.5"),
        ({"instances": [{"user": 7.0}]}, "7"),
        ({"instances": [{"user": True}]}, "true"),
        ({"instances": ["ada"]}, "ada"),
        ({"inputs": {"x": 1}}, None),
        ({"inputs": {"user": []}}, None),
        ({"inputs": {"user": [None]}}, None),
        ({"inputs": {"user": {"b64": "?"}}}, None),
        ({"inputs": {"user": {"x": 1}}}, None),
        ({"instances": []}, None),
        ({"instances": "ada"}, None),
        ({}, None),
    ],
)
def test_in_json(body: Any, value: str | None) -> None:
    """Rows or columns, strings, numbers and base64; what is not there, or wrong, is none."""
    assert first_of_body(parse_predict(json.dumps(body).encode()), "user") == value


@pytest.mark.parametrize(
    ("body", "name", "value"),
    [
        ({"inputs": {"user": [[7.0] * 100] * 100}}, "user", "7"),
        ({"inputs": {"user": [[7] * 100] * 100}}, "user", "7"),
        ({"inputs": {"user": [[7, 7.5] * 100] * 100}}, "user", "7"),
        ({"inputs": [[0.1] * 100] * 100}, "user", "0.1"),
        ({"inputs": {"x": [[7.0] * 100] * 100}}, "user", None),
    ],
)
def test_in_a_grid(body: Any, name: str, value: str | None) -> None:
    """A large tensor is read before it is known what it is for; its first value is as good as another's."""
    parsed = parse_predict(json.dumps(body).encode())
    assert parsed.grid is not None
    assert first_of_body(parsed, name) == value


def proto(array: Any) -> Any:
    encoded = messages.TensorProto()
    encode_tensor_into(encoded, np.asarray(array))
    return encoded


@pytest.mark.parametrize(
    ("given", "value"),
    [
        (np.array([7, 8], np.int64), "7"),
        (np.array(2.5, np.float32), "2.5"),
        (np.array(0.1, np.float32), "0.1"),
        (np.array(7, np.float32), "7"),
        (np.array(-0.0), "0"),
        (np.array(1e22, np.float32), "1e+22"),
        (np.array(np.nan), "nan"),
        (np.array(-np.inf), "-inf"),
        (np.array(2**63 - 1), "9223372036854775807"),
        (np.array(True), "true"),
        (np.array(7, ml_dtypes.bfloat16), "7"),
        (np.array([b"ada"], object), "ada"),
        (np.array([b"\xff"], object), "\\xff"),
        (np.zeros(0), None),
        (proto([7, 8]), "7"),
        (proto(np.array([b"ada"], object)), "ada"),
        (messages.TensorProto(), None),
    ],
)
def test_in_tensors(given: Any, value: str | None) -> None:
    """Arrays or TensorProtos; one that cannot be decoded has none."""
    assert first_of_inputs({"user": given}, "user") == value
    assert first_of_inputs({"user": given}, "x") is None


FIRST = [
    np.array([7, 8]), np.array([0.1, 2.0], np.float32), np.array([0.5, 2.0]), np.array([1 + 2j, 3]), np.array([True]),
    np.array([b"ada", b"x" * 300], object), np.array([b"x" * 300, b""], object), np.array([0.5], np.float16),
    np.array([3, -4], ml_dtypes.int4), np.array([0.1], ml_dtypes.bfloat16), np.array([3], np.uint64), np.array([[-1]]),
]  # fmt: skip


@pytest.mark.parametrize("array", FIRST, ids=lambda array: str(array.dtype))
@pytest.mark.parametrize("as_content", [False, True])
def test_the_first_of_a_tensor(array: Any, as_content: bool) -> None:
    """Is found without reading the others, and is what reading all of them gives."""
    encoded = messages.TensorProto()
    encode_tensor_into(encoded, array, as_content=as_content)
    assert decode_first(encoded, "x") == decode_tensor(encoded, "x").flat[0]


@pytest.mark.parametrize(
    ("described", "first"),
    [
        ({"dtype": 9, "int64_val": []}, 0),
        ({"dtype": 9, "tensor_shape": {"dim": [{"size": 1 << 24}]}, "int64_val": [7]}, 7),
        ({"dtype": 7, "tensor_shape": {"dim": [{"size": 2}]}}, b""),
        ({"dtype": 9, "tensor_shape": {"dim": [{"size": 0}]}}, None),
    ],
)
def test_the_first_of_a_tensor_that_is_filled_up(described: dict[str, Any], first: Any) -> None:
    """Costs no memory for the others."""
    assert decode_first(messages.TensorProto(**described), "x") == first


@pytest.mark.parametrize(
    "described",
    [
        {"dtype": 0},
        {"dtype": 9, "tensor_shape": {"unknown_rank": True}},
        {"dtype": 9, "tensor_content": b"1234"},
        {"dtype": 7, "tensor_shape": {"dim": [{"size": 2}]}, "tensor_content": b"\x80"},
    ],
)
def test_a_tensor_that_is_none(described: dict[str, Any]) -> None:
    """Has no first element either."""
    with pytest.raises(InvalidArgument, match="x"):
        decode_first(messages.TensorProto(**described), "x")


def test_in_examples() -> None:
    """A feature of the first one, whatever its kind."""
    examples = [encode_example({"a": ["ada", "x"], "b": 7, "c": 0.5, "d": []}), encode_example({"a": "grace"})]
    assert [first_of_examples(examples, name) for name in "abcde"] == ["ada", "7", "0.5", None, None]
    assert first_of_examples([], "a") is None
    assert first_of_examples([b"\xff"], "a") is None


@pytest.mark.parametrize(
    ("given", "value"),
    [
        ({"user": [7, 8]}, "7"),
        ({"user": "ada"}, "ada"),
        ({"user": np.array([[2.5]])}, "2.5"),
        ({"user": 7.0}, "7"),
        ([{"user": b"ada"}, {"user": b"grace"}], "ada"),
        (np.array([7]), "7"),
        ([["ada"]], "ada"),
        ({"x": 1}, None),
        ({"user": []}, None),
        ({"user": [None]}, None),
        ({}, None),
    ],
)
def test_as_a_python_caller_gives_them(given: Any, value: str | None) -> None:
    """Columns, rows, or one value that needs no name."""
    assert first_of_given(given, "user") == value
