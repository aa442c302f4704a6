"""Compact answers."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from serving_app.protocol.json_text import row_texts, string_text, tensor_text


def objects(values: Any) -> np.ndarray[Any, Any]:
    return np.array(values, np.object_)


NAN, INFINITY = float("nan"), float("inf")
TEXTS = [
    (np.array([2.5, 3.0, 4.5], np.float32), b"[2.5,3.0,4.5]"),
    (np.array(2.5, np.float32), b"2.5"),
    (np.array([0.1, 1 / 3, -0.0, 16777216], np.float32), b"[0.1,0.33333334,-0.0,16777216.0]"),
    (np.array([0.1, 1 / 3]), b"[0.1,0.3333333333333333]"),
    (np.array([1.0, NAN, INFINITY, -INFINITY], np.float32), b"[1.0,NaN,Infinity,-Infinity]"),
    (np.array([[NAN], [1.0], [-INFINITY]]), b"[[NaN],[1.0],[-Infinity]]"),
    (np.array(NAN), b"NaN"),
    (np.array([[1, 2], [3, 4]], np.int32), b"[[1,2],[3,4]]"),
    (np.array([-128, 127], np.int8), b"[-128,127]"),
    (np.array([-(2**15)], np.int16), b"[-32768]"),
    (np.array([255], np.uint8), b"[255]"),
    (np.array([2**32 - 1], np.uint32), b"[4294967295]"),
    (np.array([2**63 - 1, -(2**63)], np.int64), b"[9223372036854775807,-9223372036854775808]"),
    (np.array([2**64 - 1], np.uint64), b"[18446744073709551615]"),
    (np.array([True, False]), b"[true,false]"),
    (np.array(True), b"true"),
    (np.array([], np.float32), b"[]"),
    (np.zeros((2, 0), np.float32), b"[[],[]]"),
    (np.zeros((0, 2), np.float32), b"[]"),
    (np.arange(6, dtype=np.int64).reshape(2, 3).T, b"[[0,3],[1,4],[2,5]]"),
    (np.arange(6.0)[::-2], b"[5.0,3.0,1.0]"),
    (np.array([1.5, NAN], ">f4"), b"[1.5,NaN]"),
    (objects([b"a", b"", "é".encode(), b"\xff"]), b'["a","","\xc3\xa9","\xff"]'),
    (objects([[b"a"], [b"b"]]), b'[["a"],["b"]]'),
    (np.empty((2, 0), np.object_), b"[[],[]]"),
    (np.empty(0, np.object_), b"[]"),
    (objects(b'say "x"\\\n'), b'"say \\"x\\"\\\\\\n"'),
    (np.array([b"ab", b"c"]), b'["ab","c"]'),
    (np.array(["ab", "é"]), '["ab","é"]'.encode()),
]


@pytest.mark.parametrize(("array", "text"), TEXTS)
def test_a_tensor_has_this_text(array: np.ndarray[Any, Any], text: bytes):
    """Each type and shape is written as nested lists, whatever its layout in memory."""
    assert tensor_text(array) == text


@pytest.mark.parametrize(("array", "text"), [(array, text) for array, text in TEXTS if array.ndim])
def test_the_rows_of_a_tensor_join_to_its_text(array: np.ndarray[Any, Any], text: bytes):
    """Row by row the text is the same."""
    rows = row_texts(array)
    assert len(rows) == array.shape[0]
    assert b"[" + b",".join(rows) + b"]" == text


def test_base64_keeps_any_bytes():
    """With `base64` each string is an object that any client decodes to the same bytes."""
    array = objects([[b"\x00\xff"], [b""]])
    assert tensor_text(array, base64=True) == b'[[{"b64":"AP8="}],[{"b64":""}]]'
    assert row_texts(array, base64=True) == [b'[{"b64":"AP8="}]', b'[{"b64":""}]']
    assert tensor_text(objects(b"a"), base64=True) == b'{"b64":"YQ=="}'


def test_only_what_must_be_is_escaped():
    """Quotation marks, backslashes and control characters are escaped, and no other byte."""
    escaped = string_text(bytes(range(256)))
    assert escaped.startswith(
        b'"\\u0000\\u0001\\u0002\\u0003\\u0004\\u0005\\u0006\\u0007\\b\\t\\n\\u000B\\f\\r\\u000E\\u000F\\u0010'
    )
    assert escaped.endswith(bytes(range(0x5D, 256)) + b'"')
    assert b'!\\"#' in escaped
    assert b"[\\\\]" in escaped
    assert string_text(b'\\"\\n\n') == b'"\\\\\\"\\\\n\\n"'


@settings(max_examples=150)
@given(
    st.sampled_from([np.float32, np.float64, np.int8, np.uint8, np.int64, np.uint64, np.bool_]).flatmap(
        lambda form: arrays.arrays(form, arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))
    )
)
def test_numbers_read_back_to_the_same_values(array: np.ndarray[Any, Any]):
    """Python's own parser reads back every number, at the width of the tensor, signs of zero included."""
    read = np.array(json.loads(tensor_text(array)), array.dtype)
    if 0 not in array.shape:
        assert read.shape == array.shape
    assert repr(read.ravel().tolist()) == repr(array.ravel().tolist())
