"""What can be asked of a servable: the inputs and outputs of its signatures, free of any tensor library."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

DEFAULT_SIGNATURE = "serving_default"
"""The signature that a request means when it names none."""


class DType(IntEnum):
    """Element types, numbered as in tensorflow.DataType."""

    INVALID = 0
    FLOAT = 1
    DOUBLE = 2
    INT32 = 3
    UINT8 = 4
    INT16 = 5
    INT8 = 6
    STRING = 7
    COMPLEX64 = 8
    INT64 = 9
    BOOL = 10
    QINT8 = 11
    QUINT8 = 12
    QINT32 = 13
    BFLOAT16 = 14
    QINT16 = 15
    QUINT16 = 16
    UINT16 = 17
    COMPLEX128 = 18
    HALF = 19
    RESOURCE = 20
    VARIANT = 21
    UINT32 = 22
    UINT64 = 23
    FLOAT8_E5M2 = 24
    FLOAT8_E4M3FN = 25
    FLOAT8_E4M3FNUZ = 26
    FLOAT8_E4M3B11FNUZ = 27
    FLOAT8_E5M2FNUZ = 28
    INT4 = 29
    UINT4 = 30
    INT2 = 31
    UINT2 = 32
    FLOAT4_E2M1FN = 33

    @property
    def label(self) -> str:
        """The name in error messages and in JSON contexts, as TensorFlow writes it: `float`, `int32`, `string`."""
        return self.name.lower()

    @property
    def proto_name(self) -> str:
        """The enum name in protos: `DT_FLOAT`."""
        return f"DT_{self.name}"


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One named input or output.

    `tensor` is the graph's name for it (`x:0`); empty when the signature encodes the value in another way (sparse or
    composite), which a plain request cannot feed. `shape` is None when the rank is unknown; -1 is an unknown size.
    """

    tensor: str
    dtype: int
    shape: tuple[int, ...] | None


@dataclass(frozen=True, slots=True)
class Signature:
    """One way to call a servable. `encoded` is the SignatureDef as the model has it, for metadata requests."""

    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    method_name: str = ""
    encoded: bytes = b""
