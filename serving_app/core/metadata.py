"""What a caller learns about a servable before calling it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from serving_app.core.servable import ServableId
from serving_app.core.signatures import DType, Signature, TensorSpec

_INITIALIZER = "__saved_model_init_op"
"""What TensorFlow 2 writes beside a model's signatures, for whoever loads it."""


@dataclass(frozen=True, slots=True)
class Metadata:
    """A version and its signatures, by name. Its text lists those that can be asked."""

    servable: ServableId
    signatures: Mapping[str, Signature]

    def __str__(self) -> str:
        lines = [f"{self.servable.name}, version {self.servable.version}"]
        for name, signature in self.signatures.items():
            if name == _INITIALIZER:
                continue
            lines.append(f"  {name} ({signature.method_name or 'no method'})")
            for what, specs in (("input ", signature.inputs), ("output", signature.outputs)):
                width = max(map(len, specs), default=0)
                lines += [f"    {what} {alias:<{width}}  {describe(spec)}" for alias, spec in specs.items()]
        return "\n".join(lines)


def describe(spec: TensorSpec) -> str:
    """The element type and shape of an input or output: `float [?, 3]`, where ? is any size."""
    known = spec.dtype in DType._value2member_map_
    dtype = DType(spec.dtype).label if known else f"unknown type {spec.dtype}"
    if spec.shape is None:
        return f"{dtype} of any shape"
    return f"{dtype} [{', '.join('?' if size < 0 else str(size) for size in spec.shape)}]"
