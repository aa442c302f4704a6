"""Predict requests that differ in their values alone, read without a look at the rest.

A client sends the same request again and again: one model, one signature, tensors of the same types and shapes. All
that differs are the bytes of the values. So what was found in one request, its *form*, is kept together with the bytes
around the values; a request that has the same bytes there says the same, and its values lie where they lay before.

That is safe where values are bytes that protobuf does not look into: `tensor_content`, and lists of floats, which are
packed as they lie in memory. Where they lie is found by trial: with every byte of the values changed, the request must
still say the same, with the changed values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from serving_app.core.errors import ServingError
from serving_app.core.servable import ModelSpec
from serving_app.protocol.tensor_proto import Array

_MOST_LENGTHS = 256
_MOST_OF_A_LENGTH = 4
_OTHER = 0x01
"""What the trial changes in every byte: little, so that numbers stay numbers."""


class Said(NamedTuple):
    """What a request says besides its values."""

    spec: ModelSpec
    signature_name: str
    output_filter: tuple[str, ...]


Read = Callable[[bytes], tuple[Said, Mapping[str, Array]]]
"""Reads a request in full. Raises ServingError."""


class _Values(NamedTuple):
    alias: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    start: int
    length: int


class _Form(NamedTuple):
    said: Said
    constants: tuple[tuple[int, bytes], ...]
    values: tuple[_Values, ...]


class Forms:
    """The forms that were seen lately. Its methods may be called from any thread."""

    def __init__(self) -> None:
        self._forms: dict[int, tuple[_Form, ...]] = {}
        self._seen: dict[int, int] = {}

    def recall(self, encoded: bytes) -> tuple[Said, dict[str, Array]] | None:
        """What the request says, if its form is known. The arrays share its memory."""
        for said, constants, values in self._forms.get(len(encoded), ()):
            for start, constant in constants:
                if not encoded.startswith(constant, start):
                    break
            else:
                return said, {each[0]: _view(encoded, each) for each in values}
        return None

    def notice(
        self, encoded: bytes, said: Said, protos: Mapping[str, Any], inputs: Mapping[str, Array], read: Read
    ) -> None:
        """A request had to be read in full. Learn its form if such requests come often; a trial costs two readings."""
        length = len(encoded)
        seen = self._seen[length] = self._seen.get(length, 0) + 1
        if len(self._seen) > _MOST_LENGTHS:
            self._seen.clear()
        if seen < 2 or seen & (seen - 1):  # the 2nd, the 4th, the 8th ...
            return
        form = _find(encoded, said, protos, inputs, read)
        if form is None:
            return
        if len(self._forms) >= _MOST_LENGTHS:
            self._forms.clear()
        self._forms[length] = (form, *self._forms.get(length, ()))[:_MOST_OF_A_LENGTH]


def _view(encoded: bytes, values: _Values) -> Array:
    _, dtype, shape, start, length = values
    array: Array = np.frombuffer(encoded, dtype, length, start)
    if len(shape) != 1:
        array = array.reshape(shape)
    return array if array.flags.aligned else array.copy()


def _find(
    encoded: bytes, said: Said, protos: Mapping[str, Any], inputs: Mapping[str, Array], read: Read
) -> _Form | None:
    """The form of a request; None if it has none, or if its values cannot be told from what is around them."""
    values = []
    for alias, array in inputs.items():
        if not array.size or not _is_opaque(array, protos[alias]):
            return None
        start = encoded.find(array.tobytes())
        if start < 0:
            return None
        values.append(_Values(alias, array.dtype, array.shape, start, array.size))
    values.sort(key=lambda each: each.start)
    constants, changed = [], bytearray(encoded)
    end = 0
    for each in values:
        if each.start < end:
            return None
        constants.append((end, encoded[end : each.start]))
        end = each.start + each.length * each.dtype.itemsize
        changed[each.start : end] = bytes(byte ^ _OTHER for byte in encoded[each.start : end])
    constants.append((end, encoded[end:]))
    form = _Form(said, tuple(constants), tuple(values))
    return form if _holds(form, bytes(changed), read) else None


def _is_opaque(array: Array, proto: Any) -> bool:
    if array.dtype.kind in "bO":
        return False  # they are not as they lie in memory
    return bool(proto.tensor_content) or (array.dtype.kind in "fc" and array.dtype.itemsize >= 4)


def _holds(form: _Form, changed: bytes, read: Read) -> bool:
    try:
        said, inputs = read(changed)
    except ServingError:
        return False
    return (
        said == form.said
        and inputs.keys() == {each.alias for each in form.values}
        and all(_is_as_seen(inputs[each.alias], changed, each) for each in form.values)
    )


def _is_as_seen(array: Array, changed: bytes, values: _Values) -> bool:
    seen = _view(changed, values)
    return array.dtype == seen.dtype and array.shape == seen.shape and array.tobytes() == seen.tobytes()
