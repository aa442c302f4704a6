"""Answers of :predict."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from serving_app.core.errors import Code, InvalidArgument
from serving_app.core.signatures import DType
from serving_app.protocol import dtypes, json_layout
from serving_app.protocol.json_answer import encode_outputs
from serving_app.protocol.json_numbers import number_texts

Array = np.ndarray[Any, Any]


def floats(*values: Any) -> Array:
    return np.array(values, np.float32)


def strings(*values: Any) -> Array:
    return np.array(values, np.object_)


ROW, COLUMN = True, False

EXACT: list[tuple[bool, dict[str, Array], str]] = [
    (ROW, {"y": floats(2.5, 3, 4.5)}, '{\n    "predictions": [2.5, 3.0, 4.5\n    ]\n}'),
    (ROW, {"y": floats([1, 2], [3, 4])}, '{\n    "predictions": [[1.0, 2.0], [3.0, 4.0]\n    ]\n}'),
    (ROW, {"y": floats()}, '{\n    "predictions": []\n}'),
    (ROW, {"y": np.zeros((2, 0, 3))}, '{\n    "predictions": [[], []\n    ]\n}'),
    (ROW, {"y": np.zeros((1, 2, 0))}, '{\n    "predictions": [[[], []]\n    ]\n}'),
    (ROW, {"y": strings(b"a", '"é'.encode())}, '{\n    "predictions": ["a", "\\"é"\n    ]\n}'),
    (
        ROW,
        {"y_bytes": strings(b"a", b"\xff")},
        '{\n    "predictions": [{\n            "b64": "YQ=="\n        }, {\n            "b64": "/w=="\n        }'
        "\n    ]\n}",
    ),
    (
        ROW,
        {"y_bytes": strings([b"a"])},
        '{\n    "predictions": [[{\n                "b64": "YQ=="\n            }]\n    ]\n}',
    ),
    (
        ROW,
        {"y": floats([1, 2], [3, 4]), "k": np.array([7, 8])},
        '{\n    "predictions": [\n        {\n            "y": [1.0, 2.0],\n            "k": 7\n        },\n'
        '        {\n            "y": [3.0, 4.0],\n            "k": 8\n        }\n    ]\n}',
    ),
    (ROW, {"a": floats(), "b": floats()}, '{\n    "predictions": []\n}'),
    (COLUMN, {"y": floats(2.5, 3)}, '{\n    "outputs": [\n        2.5,\n        3.0\n    ]\n}'),
    (COLUMN, {"y": np.array(True)}, '{\n    "outputs": true\n}'),
    (COLUMN, {"y": floats()}, '{\n    "outputs": []\n}'),
    (
        COLUMN,
        {"y": np.array([[1], [2]])},
        '{\n    "outputs": [\n        [\n            1\n        ],\n        [\n            2\n        ]\n    ]\n}',
    ),
    (
        COLUMN,
        {"y_bytes": strings(b"a")},
        '{\n    "outputs": [\n        {\n            "b64": "YQ=="\n        }\n    ]\n}',
    ),
    (
        COLUMN,
        {"y": np.array([1]), 'n"': np.array(3)},
        '{\n    "outputs": {\n        "y": [\n            1\n        ],\n        "n\\"": 3\n    }\n}',
    ),
]


@pytest.mark.parametrize(("is_row", "outputs", "text"), EXACT)
def test_an_exact_answer_has_this_layout(is_row: bool, outputs: Mapping[str, Array], text: str):
    """Rows on a line each, elements of whole tensors on a line each, and brackets where TensorFlow Serving has them."""
    assert encode_outputs(outputs, is_row=is_row, style="exact") == text.encode()


COMPACT = [
    # One output: its name is left out.
    (ROW, {"y": floats(2.5, 3)}, b'{"predictions":[2.5,3.0]}'),
    (ROW, {"y": floats([1, 2], [3, 4])}, b'{"predictions":[[1.0,2.0],[3.0,4.0]]}'),
    (ROW, {"y": floats()}, b'{"predictions":[]}'),
    (ROW, {"y": floats(float("nan"))}, b'{"predictions":[NaN]}'),
    (ROW, {"y": strings(b"a", b"\xff")}, b'{"predictions":["a","\xff"]}'),
    (ROW, {"y_bytes": strings(b"a", b"\xff")}, b'{"predictions":[{"b64":"YQ=="},{"b64":"/w=="}]}'),
    (ROW, {"y_bytes": floats(1)}, b'{"predictions":[1.0]}'),
    (COLUMN, {"y": floats(2.5, 3)}, b'{"outputs":[2.5,3.0]}'),
    (COLUMN, {"y": np.float32(2.5).reshape(())}, b'{"outputs":2.5}'),
    (COLUMN, {"y_bytes": strings([b"a"])}, b'{"outputs":[[{"b64":"YQ=="}]]}'),
    # Several: named.
    (
        ROW,
        {"y": floats([1, 2], [3, 4]), "k": np.array([7, 8]), "s_bytes": strings(b"a", b"b"), "t": strings(b"c", b"d")},
        b'{"predictions":[{"y":[1.0,2.0],"k":7,"s_bytes":{"b64":"YQ=="},"t":"c"},'
        b'{"y":[3.0,4.0],"k":8,"s_bytes":{"b64":"Yg=="},"t":"d"}]}',
    ),
    (ROW, {"a": floats(), "b": floats()}, b'{"predictions":[]}'),
    (
        ROW,
        {"a": np.zeros((2, 0)), "b": floats(1, float("inf"))},
        b'{"predictions":[{"a":[],"b":1.0},{"a":[],"b":Infinity}]}',
    ),
    (COLUMN, {"y": floats([1, 2]), "n": np.array(3)}, b'{"outputs":{"y":[[1.0,2.0]],"n":3}}'),
    (COLUMN, {'é"': floats(1), "b": floats()}, '{"outputs":{"é\\"":[1.0],"b":[]}}'.encode()),
]


@pytest.mark.parametrize(("is_row", "outputs", "text"), COMPACT)
def test_a_compact_answer_has_this_text(is_row: bool, outputs: Mapping[str, Array], text: bytes):
    """Rows are answered with rows and columns with columns; names appear if there is more than one output."""
    assert encode_outputs(outputs, is_row=is_row, style="compact") == text


@pytest.mark.parametrize("style", ["exact", "compact"])
@pytest.mark.parametrize(
    ("is_row", "outputs", "message"),
    [
        (ROW, {}, "Cannot convert empty tensor map to JSON"),
        (COLUMN, {}, "Cannot convert empty tensor map to JSON"),
        (ROW, {"y": np.array(1.0)}, "Tensor name: y has no shape information "),
        (ROW, {"a": floats(1), "y": np.array(1.0)}, "Tensor name: y has no shape information "),
        (
            ROW,
            {"a": floats(1, 2), "b": floats(1)},
            "Tensor name: b has inconsistent batch size: 1 expecting: 2",
        ),
        *(
            (is_row, {"a": floats(1), "y": np.zeros(1, dtypes.to_numpy(dtype))},
             f"Failed to write JSON value for tensor type: {name}")
            for is_row in (ROW, COLUMN)
            for dtype, name in [
                (DType.HALF, "half"),
                (DType.BFLOAT16, "bfloat16"),
                (DType.UINT16, "uint16"),
                (DType.COMPLEX64, "complex64"),
                (DType.COMPLEX128, "complex128"),
                (DType.QINT8, "qint8"),
            ]
        ),
    ],
)  # fmt: skip
def test_outputs_without_a_json_form_are_refused(
    is_row: bool, outputs: Mapping[str, Array], message: str, style: Any
):
    """What a format cannot show is an error with TensorFlow Serving's message."""
    with pytest.raises(InvalidArgument) as caught:
        encode_outputs(outputs, is_row=is_row, style=style)
    assert caught.value.message == message
    assert caught.value.code is Code.INVALID_ARGUMENT


class Printer:
    """An indenting JSON writer as RapidJSON's: told one token after the other, it can be switched to single lines."""

    def __init__(self) -> None:
        self.text = ""
        self.single_line = False
        self._counts: list[tuple[bool, int]] = []  # of each open container: whether it is a list, and its values

    def value(self, text: str) -> None:
        if self._counts:
            is_list, count = self._counts[-1]
            if is_list:
                self.text += ("," if count else "") + (" " if count and self.single_line else "")
                if not self.single_line:
                    self._line()
            elif count % 2:
                self.text += ": "
            else:
                self.text += "," if count else ""
                self._line()
            self._counts[-1] = (is_list, count + 1)
        self.text += text

    def begin(self, bracket: str) -> None:
        self.value(bracket)
        self._counts.append((bracket == "[", 0))

    def end(self, bracket: str) -> None:
        is_list, count = self._counts.pop()
        if count and not (is_list and self.single_line):
            self._line()
        self.text += bracket

    def _line(self) -> None:
        self.text += "\n" + "    " * len(self._counts)

    def tensor(self, name: str, array: Array) -> None:
        if array.ndim:
            self.begin("[")
            for part in array:
                self.tensor(name, np.asarray(part, array.dtype))
            self.end("]")
        elif array.dtype != object:
            self.value(number_texts(array)[0].decode())
        elif name.endswith("_bytes"):
            self.begin("{")
            self.value('"b64"')
            self.value(json.dumps(b64encode(array[()]).decode()))
            self.end("}")
        else:
            self.value(json.dumps(array[()].decode()))


def printed(outputs: Mapping[str, Array], is_row: bool) -> str:
    """The answer told token by token, in the order of json_tensor.cc."""
    printer = Printer()
    printer.begin("{")
    printer.value('"predictions"' if is_row else '"outputs"')
    tellings = [outputs]
    if is_row:
        printer.begin("[")
        size = len(next(iter(outputs.values())))
        tellings = [{name: np.asarray(array[i], array.dtype) for name, array in outputs.items()} for i in range(size)]
    for telling in tellings:
        if len(outputs) > 1:
            printer.begin("{")
        for name, array in telling.items():
            if len(outputs) > 1:
                printer.value(json.dumps(name))
            printer.single_line = is_row
            printer.tensor(name, array)
            printer.single_line = False
        if len(outputs) > 1:
            printer.end("}")
    if is_row:
        printer.end("]")
    printer.end("}")
    return printer.text


kinds = st.sampled_from([np.float32, np.float64, np.int64, np.bool_, np.object_])


def tensors(rows: int) -> st.SearchStrategy[Array]:
    shapes = st.lists(st.integers(0, 3), max_size=3).map(lambda rest: (rows, *rest))
    texts = st.text("ab\"\\\n", max_size=3).map(str.encode)
    return st.tuples(kinds, shapes).flatmap(
        lambda form: arrays.arrays(*form, elements=texts if form[0] is np.object_ else None, fill=st.nothing())
    )


@settings(max_examples=100)
@given(
    st.integers(0, 3).flatmap(
        lambda rows: st.dictionaries(st.sampled_from(["a", "b", "c_bytes"]), tensors(rows), min_size=1)
    ),
    st.booleans(),
)
def test_the_layout_is_that_of_a_token_by_token_printer(outputs: dict[str, Array], is_row: bool):
    """For any outputs the exact answer is what RapidJSON's printer writes; the compact one means the same."""
    exact = encode_outputs(outputs, is_row=is_row, style="exact").decode()
    assert exact == printed(outputs, is_row)
    with patch.object(json_layout, "FEW", 1):  # written as if they had many elements
        assert encode_outputs(outputs, is_row=is_row, style="exact") == exact.encode()
    compact = encode_outputs(outputs, is_row=is_row, style="compact")

    def narrow(text: str) -> Any:
        with np.errstate(over="ignore"):
            return np.float32(text).item()

    assert repr(json.loads(exact, parse_float=narrow)) == repr(json.loads(compact, parse_float=narrow))
