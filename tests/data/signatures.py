"""Signatures for tests, without a model behind them."""

from __future__ import annotations

from serving_app.core.signatures import DType, Signature, TensorSpec
from serving_app.protocol.signature_proto import make_signature


def signature(
    inputs: dict[str, tuple[DType, tuple[int, ...] | None]], outputs: dict[str, tuple[DType, tuple[int, ...] | None]]
) -> Signature:
    """A signature with these types and shapes; every input and output is a plain tensor of its own name."""
    specs = [
        {name: TensorSpec(f"{name}:0", dtype, shape) for name, (dtype, shape) in side.items()}
        for side in (inputs, outputs)
    ]
    return make_signature(*specs)


ROW = (DType.FLOAT, (-1,))
"""A number for each row."""
