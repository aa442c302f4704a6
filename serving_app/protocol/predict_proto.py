"""gRPC Predict: request bytes to names and arrays, arrays to response bytes.

Decoding has two steps, because TensorFlow Serving looks at the values only after it has found the servable and the
signature and has checked the names: `decode_predict` reads what is needed for that, `decode_inputs` reads the values.
Requests that differ from others in their values alone are not read again (predict_forms.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from serving_app.core.servable import ModelSpec
from serving_app.core.signatures import DType
from serving_app.protocol import dtypes, messages
from serving_app.protocol.model_spec_proto import decode_spec, encode_spec, parse
from serving_app.protocol.predict_forms import Forms, Said
from serving_app.protocol.tensor_proto import Array, decode_tensor, encode_tensor_into, varint


class PredictQuery(NamedTuple):
    """A Predict request. Its inputs are messages whose values are not decoded yet, or arrays where the form of the
    request is known. An empty `output_filter` means all outputs.
    """

    spec: ModelSpec
    signature_name: str
    output_filter: tuple[str, ...]
    inputs: Mapping[str, Any]
    encoded: bytes | None = None
    """What it was decoded from, unless its form is known."""


_FORMS = Forms()


def recall_predict(encoded: bytes) -> PredictQuery | None:
    """The request in these bytes if its form is known. Takes next to no time, however large it is."""
    found = _FORMS.recall(encoded)
    return None if found is None else PredictQuery(*found[0], found[1])


def decode_predict(encoded: bytes) -> PredictQuery:
    """The request in these bytes; InvalidArgument if they are none or if it does not say which model it is for."""
    return recall_predict(encoded) or _decode(encoded)


def decode_inputs(query: PredictQuery) -> dict[str, Array]:
    """The values of the inputs; InvalidArgument, naming the input, if one cannot be decoded."""
    if query.encoded is None:
        return dict(query.inputs)
    inputs = {alias: decode_tensor(proto, alias) for alias, proto in query.inputs.items()}
    _FORMS.notice(query.encoded, Said(*query[:3]), query.inputs, inputs, _read)
    return inputs


def _decode(encoded: bytes) -> PredictQuery:
    request = parse(messages.PredictRequest, encoded)
    spec = decode_spec(request)
    inputs = dict(request.inputs.items())
    return PredictQuery(spec, request.model_spec.signature_name, tuple(request.output_filter), inputs, encoded)


def _read(encoded: bytes) -> tuple[Said, dict[str, Array]]:
    query = _decode(encoded)
    return Said(*query[:3]), {alias: decode_tensor(proto, alias) for alias, proto in query.inputs.items()}


def encode_predict(
    name: str, version: int, signature_name: str, outputs: Mapping[str, Array], *, as_content: bool = False
) -> bytes:
    """The response of the servable `name`, `version`; `signature_name` is the one that ran, never empty.

    Values that lie in a message as they lie in memory are put there; the rest is written once for all of a kind. The
    parts of a message, one after the other, are that message.
    """
    parts = [_encoded_spec(name, version, signature_name)]
    for alias, array in outputs.items():
        start = _start_of_output(alias, array.dtype, array.shape, as_content)
        if start is None:
            one = messages.PredictResponse()
            encode_tensor_into(one.outputs[alias], array, as_content=as_content)
            parts.append(one.SerializeToString())
        else:
            parts += start, array.tobytes()
    return b"".join(parts)


@lru_cache(1024)
def _encoded_spec(name: str, version: int, signature_name: str) -> bytes:
    response = messages.PredictResponse()
    encode_spec(response.model_spec, name, version, signature_name)
    encoded: bytes = response.SerializeToString()
    return encoded


@lru_cache(1024)
def _start_of_output(alias: str, dtype: np.dtype[Any], shape: tuple[int, ...], as_content: bool) -> bytes | None:
    """An entry of `outputs` up to its values, which are its end; None where they do not lie there as in memory."""
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    if not size or dtype.byteorder == ">" or dtype.kind in "OSUV":
        return None
    listed = {DType.FLOAT: 5, DType.DOUBLE: 6}
    if (number := dtypes.from_numpy(dtype)) not in listed and not as_content:
        return None
    tensor: Any = messages.TensorProto(dtype=int(number))
    tensor.tensor_shape.SetInParent()
    for length in shape:
        tensor.tensor_shape.dim.add(size=length)
    before: bytes = tensor.SerializeToString() + varint((4 if as_content else listed[number]) << 3 | 2) + varint(size)
    key = alias.encode()
    entry = b"\x0a" + varint(len(key)) + key + b"\x12" + varint(len(before) + size) + before
    return b"\x0a" + varint(len(entry) + size) + entry


def encode_predict_request(
    spec: ModelSpec, signature_name: str, inputs: Mapping[str, Array], output_filter: tuple[str, ...] = ()
) -> bytes:
    """The other direction: what a client sends. `tensor_content` is used, which costs both sides least."""
    request = messages.PredictRequest(output_filter=output_filter)
    request.model_spec.name = spec.name
    request.model_spec.signature_name = signature_name
    if spec.version is not None:
        request.model_spec.version.value = spec.version
        request.model_spec.version.SetInParent()
    elif spec.label is not None:
        request.model_spec.version_label = spec.label
    for alias, array in inputs.items():
        encode_tensor_into(request.inputs[alias], array, as_content=True)
    encoded: bytes = request.SerializeToString()
    return encoded


def decode_predict_response(encoded: bytes) -> tuple[int, dict[str, Array]]:
    """The version that answered, and its outputs."""
    response = parse(messages.PredictResponse, encoded)
    outputs = {alias: decode_tensor(proto, alias) for alias, proto in response.outputs.items()}
    return response.model_spec.version.value, outputs
