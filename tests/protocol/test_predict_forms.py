"""Requests that differ in their values alone, read by their form: they say what they say when read in full."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving_app.core.errors import ServingError
from serving_app.core.servable import ModelSpec
from serving_app.protocol import messages, predict_proto
from serving_app.protocol.predict_forms import Forms, Said
from serving_app.protocol.predict_proto import encode_predict_request
from serving_app.protocol.tensor_proto import encode_tensor_into


def as_lists(spec: ModelSpec, inputs: Mapping[str, np.ndarray[Any, Any]]) -> bytes:
    request = messages.PredictRequest()
    request.model_spec.name = spec.name
    for alias, array in inputs.items():
        encode_tensor_into(request.inputs[alias], array)
    encoded: bytes = request.SerializeToString()
    return encoded


def notice(forms: Forms, encoded: bytes) -> None:
    query = predict_proto._decode(encoded)
    said, inputs = predict_proto._read(encoded)
    forms.notice(encoded, said, query.inputs, inputs, predict_proto._read)


def numbers(seed: int, dtype: Any, *shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(1, 100, shape).astype(dtype)


M = ModelSpec("m")


def test_a_form_is_known_after_a_few_requests() -> None:
    """From the second of its length on a request is read by its form: another model, signature, filter, type or shape
    is another form, and values, however strange, are only values."""
    forms = Forms()
    requests = [encode_predict_request(M, "s", {"x": numbers(seed, np.float32, 2, 3)}, ("y",)) for seed in range(2)]
    for request in requests:
        assert forms.recall(request) is None
        notice(forms, request)
    for values in (numbers(9, np.float32, 2, 3), np.full((2, 3), np.nan, np.float32), np.zeros((2, 3), np.float32)):
        found = forms.recall(encode_predict_request(M, "s", {"x": values}, ("y",)))
        assert found is not None
        assert found[0] == Said(M, "s", ("y",))
        np.testing.assert_array_equal(found[1]["x"], values)
    others = [
        encode_predict_request(ModelSpec("n"), "s", {"x": values}, ("y",)),
        encode_predict_request(M, "t", {"x": values}, ("y",)),
        encode_predict_request(M, "s", {"z": values}, ("y",)),
        encode_predict_request(M, "s", {"x": values}, ("z",)),
        encode_predict_request(M, "s", {"x": values.reshape(3, 2)}, ("y",)),
        encode_predict_request(M, "s", {"x": values.view(np.int32)}, ("y",)),
    ]
    assert {len(other) for other in others} == {len(requests[0])}
    assert [forms.recall(other) for other in others] == [None] * len(others)


@pytest.mark.parametrize(
    ("request_of", "has_form"),
    [
        (lambda n: as_lists(M, {"x": numbers(n, np.float32, 3)}), True),
        (lambda n: as_lists(M, {"x": numbers(n, np.float64, 3), "y": numbers(n + 7, np.float32, 2, 2)}), True),
        (lambda n: encode_predict_request(M, "", {f"x{i}": numbers(n + i, np.int64, 2) for i in range(20)}), True),
        (lambda n: encode_predict_request(M, "", {"x": numbers(n, np.uint8, 5)}), True),
        (lambda n: as_lists(M, {"x": numbers(n, np.uint8, 3)}), False),  # numbers of one byte or of two
        (lambda n: as_lists(M, {"x": numbers(n, np.bool_, 3)}), False),
        (lambda n: encode_predict_request(M, "", {"x": numbers(n, np.bool_, 3)}), False),
        (lambda n: encode_predict_request(M, "", {"x": np.array([b"a"], object)}), False),
        (lambda n: encode_predict_request(M, "", {"x": np.zeros((0, 3), np.float32)}), False),
        (lambda n: encode_predict_request(M, "", {}), True),
    ],
)
def test_what_has_a_form(request_of: Any, has_form: bool) -> None:
    """Only values that protobuf does not look into are read by a form."""
    forms = Forms()
    for number in range(4):
        notice(forms, request_of(number))
    found = forms.recall(request_of(99))
    assert (found is not None) is has_form
    if found is not None:
        expected = predict_proto._read(request_of(99))
        assert found[0] == expected[0]
        for alias, array in expected[1].items():
            np.testing.assert_array_equal(found[1][alias], array, strict=True)
            assert found[1][alias].flags.aligned


def test_values_that_are_there_twice_have_no_form_until_they_can_be_told_apart() -> None:
    """Where the bytes of the values are also elsewhere in the request, none of them is taken for the other."""
    forms = Forms()
    twice = encode_predict_request(ModelSpec("\x01\x02\x03\x04"), "", {"x": np.array([1, 2, 3, 4], np.uint8)})
    for _ in range(4):
        notice(forms, twice)
    assert forms.recall(twice) is None
    others = encode_predict_request(ModelSpec("\x01\x02\x03\x04"), "", {"x": np.array([9, 9, 9, 9], np.uint8)})
    for _ in range(4):
        notice(forms, others)
    found = forms.recall(twice)
    assert found is not None
    assert (found[0].spec.name, found[1]["x"].tolist()) == ("\x01\x02\x03\x04", [1, 2, 3, 4])


def test_forms_are_bounded() -> None:
    """Clients that send something else each time do not fill the memory."""
    forms = Forms()
    for length in range(1000):
        for _ in range(2):
            notice(forms, encode_predict_request(ModelSpec("m" * length), "", {"x": numbers(1, np.float32, 3)}))
    assert len(forms._forms) <= 256
    assert len(forms._seen) <= 256


FORMS = Forms()
"""What has been learnt in all examples, as in a server."""


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    spec = ModelSpec(draw(st.sampled_from(("a", "b"))), version=draw(st.sampled_from((None, 1))))
    dtypes = st.sampled_from((np.float32, np.float64, np.uint8, np.int64))
    shapes = st.sampled_from(((2,), (1, 2), (2, 1), ()))
    inputs = {
        alias: np.frombuffer(draw(st.binary(min_size=64, max_size=64)), dtype)[: int(np.prod(shape))].reshape(shape)
        for alias in draw(st.sampled_from(("x", "y", "xy")))
        for dtype, shape in [(draw(dtypes), draw(shapes))]
    }
    encoded = bytearray(as_lists(spec, inputs) if draw(st.booleans()) else encode_predict_request(spec, "s", inputs))
    rng = random.Random(draw(st.integers(0, 2**32)))
    for _ in range(draw(st.sampled_from((0, 0, 1, 2)))):
        encoded[rng.randrange(len(encoded))] = rng.randrange(256)
    return bytes(encoded)


@settings(deadline=None, max_examples=500)
@given(requests())
def test_a_form_never_says_anything_else(encoded: bytes) -> None:
    """Whatever was learnt before, a request that is read by its form says exactly what it says when read in full."""
    found = FORMS.recall(encoded)
    if found is None:
        with contextlib.suppress(ServingError):
            notice(FORMS, encoded)
        return
    said, inputs = predict_proto._read(encoded)
    assert found[0] == said
    assert found[1].keys() == inputs.keys()
    for alias, array in inputs.items():
        seen = found[1][alias]
        assert (seen.dtype, seen.shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(seen, array)
