"""Arrays to tensors and back.

In: TensorFlow reads the array's own memory where that is worth it, which means a large, contiguous array on an address
that TensorFlow's alignment allows; anything else is copied once. A model may keep an input for longer than a run (a
variable assigned from it does), so a lent array is held until TensorFlow gives it back, from whatever thread.

Out: small tensors are copied, large ones are read where TensorFlow has them and freed with the last array that looks
at them. Such memory may be a variable's or a constant's own, so answers are read-only.

Strings are made and owned by TensorFlow itself: its kernels may share a string's memory beyond the tensor that it came
in, so nothing of ours may stand in for it.
"""

from __future__ import annotations

import ctypes
import itertools
import struct
from collections.abc import Callable
from ctypes import c_int64, c_size_t, c_void_p
from typing import Any

import numpy as np

from serving_app.core.errors import InvalidArgument
from serving_app.core.signatures import DType
from serving_app.protocol import messages
from serving_app.protocol.dtypes import from_numpy
from serving_app.runtime.tensorflow_c.library import Library, buffer_over, checked_status

Array = np.ndarray[Any, Any]

LEND_FROM = 64 * 1024
"""Bytes from which an input is lent rather than copied: about where a copy costs as much as the callback at the end."""

VIEW_FROM = 16 * 1024
"""Bytes from which an output is read in TensorFlow's memory rather than copied."""

_TSTRING = struct.Struct("<QQQ")

_lent: dict[int, Array] = {}
_tickets = itertools.count(1)


def _take_back(_data: int, _length: int, ticket: int) -> None:
    _lent.pop(ticket, None)


_give_back = ctypes.CFUNCTYPE(None, c_void_p, c_size_t, c_void_p)(_take_back)


def lent_arrays() -> int:
    """How many inputs TensorFlow still reads in Python's memory."""
    return len(_lent)


def to_tensor(lib: Library, array: Array) -> int:
    """A new tensor with an array's values; the caller frees it. InvalidArgument if TensorFlow has no such values."""
    dtype = from_numpy(array.dtype)
    if dtype is DType.STRING:
        return _string_tensor(lib, array)
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    shape = _dims(array.shape)
    size = array.nbytes
    if size < LEND_FROM:
        tensor: int = lib.TF_AllocateTensor(dtype, shape, array.ndim, size)
        if size:
            ctypes.memmove(lib.TF_TensorData(tensor), array.tobytes(), size)
        return tensor
    if not array.flags.c_contiguous:
        array = array.copy(order="C")
    address = array.ctypes.data
    if address % lib.alignment:
        tensor = lib.TF_AllocateTensor(dtype, shape, array.ndim, size)
        ctypes.memmove(lib.TF_TensorData(tensor), address, size)
        return tensor
    ticket = next(_tickets)
    _lent[ticket] = array
    lent: int = lib.TF_NewTensor(dtype, shape, array.ndim, address, size, _give_back, ticket)
    return lent


def to_array(lib: Library, tensor: int, form: np.dtype[Any]) -> Array:
    """A tensor's values, in this numpy form of its element type; takes the tensor over and frees it in due time."""
    size = lib.TF_TensorByteSize(tensor)
    if size >= VIEW_FROM and not form.hasobject:
        memory = _TensorMemory(lib, tensor, size)
        return np.asarray(memory).view(form).reshape(_shape(lib, tensor))
    try:
        shape = _shape(lib, tensor)
        if form.hasobject:
            return _strings(lib, tensor, shape)
        if not size:
            return np.empty(shape, form)
        return np.ndarray(shape, form, ctypes.string_at(lib.TF_TensorData(tensor), size))
    finally:
        lib.TF_DeleteTensor(tensor)


def from_proto(lib: Library, encoded: bytes) -> int:
    """A new tensor from a serialised TensorProto; the caller frees it."""
    # An empty tensor of no dimensions' worth; TensorFlow replaces its contents, type and shape included.
    tensor: int = lib.TF_AllocateTensor(DType.FLOAT, _dims((0,)), 1, 0)
    try:
        with checked_status(lib) as status:
            lib.TF_TensorFromProto(ctypes.byref(buffer_over(encoded)), tensor, status)
    except BaseException:
        lib.TF_DeleteTensor(tensor)
        raise
    return tensor


class _TensorMemory:
    """A tensor as numpy sees memory; every array over it keeps this alive, and the last one frees the tensor."""

    def __init__(self, lib: Library, tensor: int, size: int) -> None:
        self._delete: Callable[[int], None] = lib.TF_DeleteTensor
        self._tensor = tensor
        self.__array_interface__ = {
            "version": 3,
            "typestr": "|u1",
            "shape": (size,),
            "data": (lib.TF_TensorData(tensor), True),  # True means read-only
        }

    def __del__(self) -> None:
        self._delete(self._tensor)


def _string_tensor(lib: Library, array: Array) -> int:
    proto = messages.TensorProto(dtype=DType.STRING)
    proto.tensor_shape.SetInParent()
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    values = array.ravel().tolist()
    try:
        proto.string_val.extend([value.encode() if isinstance(value, str) else value for value in values])
    except TypeError as error:
        raise InvalidArgument(f"a string tensor holds bytes or str, and one value is neither ({error})") from error
    return from_proto(lib, proto.SerializeToString())


def _strings(lib: Library, tensor: int, shape: tuple[int, ...]) -> Array:
    array = np.empty(shape, np.object_)
    array.reshape(-1)[:] = read_strings(lib, lib.TF_TensorData(tensor), array.size)
    array.flags.writeable = False
    return array


def read_strings(lib: Library, first: int, count: int) -> list[bytes]:
    """The values of TF_TStrings that follow each other (ctstring_internal.h, little-endian).

    The two lowest bits tell how a string is kept: 0 in place, its size in the bits above, 1 on the heap. Reading these
    two here is worth it, since a call into the library costs as much as ten strings; it answers for the other kinds.
    """
    values = []
    records = ctypes.string_at(first, count * _TSTRING.size)
    for index, (size, _, address) in enumerate(_TSTRING.iter_unpack(records)):
        kind = size & 3
        if kind == 0:
            start = index * _TSTRING.size + 1
            values.append(records[start : start + (size >> 2 & 0x3F)])
        elif kind == 1:
            values.append(ctypes.string_at(address, size >> 2))
        else:
            string = first + index * _TSTRING.size
            values.append(ctypes.string_at(lib.TF_StringGetDataPointer(string), lib.TF_StringGetSize(string)))
    return values


def _dims(shape: tuple[int, ...]) -> Any:
    return (c_int64 * len(shape))(*shape)


def _shape(lib: Library, tensor: int) -> tuple[int, ...]:
    return tuple([lib.TF_Dim(tensor, axis) for axis in range(lib.TF_NumDims(tensor))])
