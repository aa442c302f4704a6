"""SignatureDef messages and the core's Signature.

A Signature shows what a request can feed and fetch. What it does not show (default values, how a sparse input is made
of parts) stays in `encoded`, which is the SignatureDef as the model has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf.message import DecodeError

from serving_app.core.errors import DataLoss
from serving_app.core.signatures import Signature, TensorSpec
from serving_app.protocol import messages


def signatures_from_meta_graph(encoded: bytes) -> dict[str, Signature]:
    """The signatures of a serialized MetaGraphDef, by name; DataLoss if the bytes are none."""
    try:
        meta_graph = messages.MetaGraphDef.FromString(encoded)
    except DecodeError as error:
        raise DataLoss(f"The model's MetaGraphDef cannot be read ({error}); export the model again.") from error
    return {name: decode_signature(meta_graph.signature_def[name]) for name in sorted(meta_graph.signature_def)}


def decode_signature(message: Any) -> Signature:
    """The Signature of a SignatureDef message; inputs and outputs are in the order of their names."""
    return Signature(
        inputs=_decode_specs(message.inputs),
        outputs=_decode_specs(message.outputs),
        method_name=message.method_name,
        encoded=message.SerializeToString(deterministic=True),
    )


def make_signature(
    inputs: Mapping[str, TensorSpec], outputs: Mapping[str, TensorSpec], method_name: str = "tensorflow/serving/predict"
) -> Signature:
    """A Signature for a model that brings no SignatureDef: `encoded` is made from the rest."""
    message = messages.SignatureDef(method_name=method_name)
    for alias, spec in inputs.items():
        _encode_spec(spec, message.inputs[alias])
    for alias, spec in outputs.items():
        _encode_spec(spec, message.outputs[alias])
    return decode_signature(message)


def default_inputs(signature: Signature) -> frozenset[str]:
    """The inputs that a request may leave out, because the model has a value for them."""
    return frozenset(messages.SignatureDef.FromString(signature.encoded).defaults)


def _decode_specs(infos: Mapping[str, Any]) -> dict[str, TensorSpec]:
    return {alias: _decode_spec(infos[alias]) for alias in sorted(infos)}


def _decode_spec(info: Any) -> TensorSpec:
    # `name` is empty for sparse and composite values: it is one of three ways to say where the value is.
    shape = None if info.tensor_shape.unknown_rank else tuple(dim.size for dim in info.tensor_shape.dim)
    return TensorSpec(tensor=info.name, dtype=info.dtype, shape=shape)


def _encode_spec(spec: TensorSpec, info: Any) -> None:
    info.name = spec.tensor
    info.dtype = spec.dtype
    info.tensor_shape.SetInParent()
    if spec.shape is None:
        info.tensor_shape.unknown_rank = True
        return
    for size in spec.shape:
        info.tensor_shape.dim.add(size=size)
