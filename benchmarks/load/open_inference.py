"""The open inference protocol (KServe's version 2) as Triton and MLServer speak it: requests and answers of `infer`.

The messages are described here as far as they are used, since no package that a benchmark could ask for has them alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

Array = np.ndarray[Any, Any]
INFER = "/inference.GRPCInferenceService/ModelInfer"
_TYPES = {"f4": "FP32", "f8": "FP64", "i4": "INT32", "i8": "INT64"}
_NUMPY = {text: code for code, text in _TYPES.items()}


def _messages() -> dict[str, Any]:
    field = descriptor_pb2.FieldDescriptorProto
    string, number, raw, message = field.TYPE_STRING, field.TYPE_INT64, field.TYPE_BYTES, field.TYPE_MESSAGE
    file = descriptor_pb2.FileDescriptorProto(name="open_inference.proto", package="inference", syntax="proto3")
    layout: dict[str, list[tuple[str, int, int, bool, str]]] = {
        "Contents": [("bytes_contents", 8, raw, True, "")],
        "Tensor": [
            ("name", 1, string, False, ""),
            ("datatype", 2, string, False, ""),
            ("shape", 3, number, True, ""),
            ("contents", 5, message, False, "Contents"),
        ],
        "ModelInferRequest": [
            ("model_name", 1, string, False, ""),
            ("inputs", 5, message, True, "Tensor"),
            ("raw_input_contents", 7, raw, True, ""),
        ],
        "ModelInferResponse": [
            ("outputs", 5, message, True, "Tensor"),
            ("raw_output_contents", 6, raw, True, ""),
        ],
    }
    for name, fields in layout.items():
        described = file.message_type.add(name=name)
        for label, index, kind, is_list, of in fields:
            one = described.field.add(
                name=label, number=index, type=kind, label=field.LABEL_REPEATED if is_list else field.LABEL_OPTIONAL
            )
            if of:
                one.type_name = f".inference.{of}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"inference.{name}")) for name in layout
    }


MESSAGES = _messages()


def with_columns(array: Array) -> Array:
    """A tensor as these servers want it, which count the first dimension as rows and then want another one."""
    return array.reshape(-1, 1) if array.ndim == 1 else array


def encode_json(inputs: Mapping[str, Array]) -> bytes:
    """The body of an infer request in JSON."""
    tensors = []
    for name, given in inputs.items():
        array = with_columns(given)
        is_text = array.dtype == object
        data = [each.decode() for each in array.ravel()] if is_text else array.ravel().tolist()
        kind = "BYTES" if is_text else _TYPES[array.dtype.str[1:]]
        tensors.append({"name": name, "shape": list(array.shape), "datatype": kind, "data": data})
    return json.dumps({"inputs": tensors}).encode()


def encode_request(model: str, inputs: Mapping[str, Array]) -> bytes:
    """The message of an infer request, its values raw, as the protocol's clients send them."""
    request = MESSAGES["ModelInferRequest"](model_name=model)
    for name, given in inputs.items():
        array = with_columns(given)
        is_text = array.dtype == object
        kind = "BYTES" if is_text else _TYPES[array.dtype.str[1:]]
        request.inputs.add(name=name, datatype=kind, shape=array.shape)
        request.raw_input_contents.append(_raw_text(array) if is_text else array.tobytes())
    encoded: bytes = request.SerializeToString()
    return encoded


def _raw_text(array: Array) -> bytes:
    return b"".join(len(each).to_bytes(4, "little") + each for each in array.ravel())


def decode_response(answer: bytes) -> dict[str, Array]:
    """The outputs in an answer whose values are raw."""
    response = MESSAGES["ModelInferResponse"].FromString(answer)
    return {
        tensor.name: np.frombuffer(raw, _NUMPY[tensor.datatype]).reshape(tuple(tensor.shape))
        for tensor, raw in zip(response.outputs, response.raw_output_contents, strict=True)
    }
