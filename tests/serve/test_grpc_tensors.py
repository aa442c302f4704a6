"""Whatever tensor a client sends over gRPC comes back from a model that changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import grpc
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving_app.core.servable import ModelSpec
from serving_app.protocol import grpc_methods, messages, predict_proto
from serving_app.protocol.tensor_proto import encode_tensor_into
from tests.serve.fronts import Front, channel
from tests.stepping import PATIENCE_S
from tests.zoo import Zoo

Array = np.ndarray[Any, Any]


class Doors(NamedTuple):
    """A front end that answers in lists of values, and one that answers in `tensor_content`; what they can be asked."""

    lists: grpc.UnaryUnaryMultiCallable
    content: grpc.UnaryUnaryMultiCallable
    signatures: dict[str, np.dtype[Any]]


@pytest.fixture(scope="module")
def doors(front: Front, zoo: Zoo) -> Iterator[Doors]:
    listener, address = front.run(front.start_grpc(PATIENCE_S, tensor_content=True))
    forms = {example.signature: example.inputs["x"].dtype for example in zoo.examples("dtypes")}
    with channel(front.grpc_address) as lists, channel(address) as content:
        yield Doors(lists.unary_unary(grpc_methods.PREDICT), content.unary_unary(grpc_methods.PREDICT), forms)
    front.run(listener.drain(0.0))


shapes = st.lists(st.integers(0, 4), max_size=4).map(tuple)


def tensors(form: np.dtype[Any], shape: tuple[int, ...]) -> st.SearchStrategy[Array]:
    """Tensors of one type and shape, of any bits that elements can have."""
    count = int(np.prod(shape))
    if form.kind == "O":
        return st.lists(st.binary(max_size=200), min_size=count, max_size=count).map(lambda each: strings(each, shape))
    any_bits = st.binary(min_size=count * form.itemsize, max_size=count * form.itemsize)
    if form.kind == "b":
        return any_bits.map(lambda bits: (np.frombuffer(bits, np.uint8) % 2 == 1).reshape(shape))
    if "int2" in form.name or "int4" in form.name or "float4" in form.name:  # not every byte is an element
        return any_bits.map(lambda bits: (np.frombuffer(bits, np.uint8) % 2).astype(form).reshape(shape))
    return any_bits.map(lambda bits: np.frombuffer(bits, form).reshape(shape))


def strings(values: list[bytes], shape: tuple[int, ...]) -> Array:
    array = np.empty(len(values), object)
    array[:] = values
    return array.reshape(shape)


def bits(array: Array) -> Any:
    """What equal tensors have in common: two NaN are equal if they are the same one."""
    return array.tolist() if array.dtype.kind == "O" else array.tobytes()


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data(), sent_as_content=st.booleans(), answered_as_content=st.booleans())
def test_any_tensor_comes_back_equal(
    doors: Doors, data: st.DataObject, sent_as_content: bool, answered_as_content: bool
) -> None:
    """Type, shape and every bit are the same, in either form there and in either form back, which is the one chosen."""
    name = data.draw(st.sampled_from(sorted(doors.signatures)))
    sent = data.draw(tensors(doors.signatures[name], data.draw(shapes)))
    request = messages.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = "dtypes", name
    encode_tensor_into(request.inputs["x"], sent, as_content=sent_as_content)
    door = doors.content if answered_as_content else doors.lists
    encoded = door(request.SerializeToString(), timeout=PATIENCE_S)
    _, outputs = predict_proto.decode_predict_response(encoded)
    assert outputs["y"].dtype == sent.dtype
    assert outputs["y"].shape == sent.shape
    assert bits(outputs["y"]) == bits(sent)
    carried = messages.PredictResponse.FromString(encoded).outputs["y"]
    assert bool(carried.tensor_content) == (answered_as_content and bool(sent.size))


def test_the_form_of_errors_is_the_same(doors: Doors) -> None:
    """A tensor that says more than it has is refused through either door, by the input's name."""
    request = messages.PredictRequest.FromString(
        predict_proto.encode_predict_request(ModelSpec("dtypes"), "float32", {"x": np.zeros(3, np.float32)})
    )
    request.inputs["x"].tensor_content += b"\0"
    for door in (doors.lists, doors.content):
        with pytest.raises(grpc.RpcError, match="tensor parsing error: x") as caught:
            door(request.SerializeToString(), timeout=PATIENCE_S)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
