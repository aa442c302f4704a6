"""Tensors on a lane: how the tensors of one call or one reply lie in the body of a frame.

What is equal in most calls is kept apart from what differs. A *layout* has the names, element types and shapes of a
mapping of tensors; it is written once for all calls of a hop that have it, and both sides remember it. What is left of
a call are its elements, in one of two areas of the body: small arrays one after another in the first, on multiples of
8 bytes; large ones in the second, on multiples of 64, which are never joined with anything, but handed to the socket
from where they are, and read where they have arrived.

A string tensor is the lengths of its strings and then the strings, with the size of all of that before it, in the
first area.
"""

from __future__ import annotations

import math
import struct
from array import array
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from serving_app.core.errors import InvalidArgument
from serving_app.protocol.dtypes import from_numpy, to_numpy
from serving_app.protocol.lane_frames import ALIGNMENT, Malformed, Memory

Array = np.ndarray[Any, Any]
Buffer = bytes | bytearray | memoryview

LARGE_BYTES = 16 << 10
"""From here on an array is sent from where it lies; below, a copy costs less than one more piece for the socket."""

_SMALL_ALIGNMENT = 8
_MOST_DIMENSIONS = 64
_COUNT = struct.Struct("<I")
_DIMENSIONS = struct.Struct("<BB")
_STRINGS = struct.Struct("<Q")
_PADDING = bytes(ALIGNMENT)
_SIZES = {"I": 4, "Q": 8, "d": 8}


class Tensor(NamedTuple):
    """One tensor of a layout: what it is, and the size and the place of its elements.

    `at` counts from the start of the call's part of its area, and means nothing where strings come before.
    """

    name: str
    form: np.dtype[Any]
    shape: tuple[int, ...]
    is_large: bool
    nbytes: int
    padding: bytes
    at: int

    @property
    def is_string(self) -> bool:
        """Whether its elements are strings, whose sizes differ from call to call."""
        return self.form.kind == "O"


class Layout(NamedTuple):
    """The tensors of a mapping, in its order; how much of each area they take, if they have no strings."""

    tensors: tuple[Tensor, ...]
    small_bytes: int
    large_bytes: int
    has_strings: bool
    is_small: bool
    """Whether all of them are small and none is of strings, as in most calls."""


def make_layout(described: Sequence[tuple[str, np.dtype[Any], tuple[int, ...]]]) -> Layout:
    """The layout of tensors of these names, types and shapes."""
    tensors = []
    at = [0, 0]
    for name, form, shape in described:
        nbytes = 0 if form.kind == "O" else math.prod(shape) * form.itemsize
        is_large = nbytes >= LARGE_BYTES
        padding = _PADDING[: -nbytes % (ALIGNMENT if is_large else _SMALL_ALIGNMENT)]
        tensors.append(Tensor(name, form, shape, is_large, nbytes, padding, at[is_large]))
        at[is_large] += nbytes + len(padding)
    has_strings = any(tensor.is_string for tensor in tensors)
    return Layout(tuple(tensors), at[0], at[1], has_strings, not has_strings and not at[1])


def layout_of(tensors: Mapping[str, Array]) -> Layout:
    """The layout of these tensors. InvalidArgument if TensorFlow has no such elements, which no lane carries either."""
    return make_layout([(name, to_numpy(from_numpy(each.dtype)), each.shape) for name, each in tensors.items()])


def write_layout(layout: Layout) -> bytes:
    """The layout in bytes."""
    parts = [_COUNT.pack(len(layout.tensors))]
    for tensor in layout.tensors:
        parts += write_text(tensor.name)
        parts.append(_DIMENSIONS.pack(from_numpy(tensor.form), len(tensor.shape)))
        parts.append(array("Q", tensor.shape).tobytes())
    return b"".join(parts)


class Reader:
    """Reads what was written with the functions here from a piece of memory, and never beyond its end."""

    def __init__(self, memory: Memory | bytes, at: int = 0) -> None:
        self._memory = memory
        self.at = at

    def skip(self, size: int) -> int:
        """Where the next so many bytes begin."""
        at = self.at
        if size < 0 or at + size > len(self._memory):
            raise Malformed("it ends too early")
        self.at = at + size
        return at

    def unpack(self, form: struct.Struct) -> tuple[Any, ...]:
        """The next numbers."""
        return form.unpack_from(self._memory, self.skip(form.size))

    def bytes(self, size: int) -> bytes:
        """The next so many bytes."""
        at = self.skip(size)
        return bytes(self._memory[at : at + size])

    def numbers(self, code: str, count: int) -> tuple[Any, ...]:
        """The next so many numbers of one kind."""
        return struct.unpack_from(f"<{count}{code}", self._memory, self.skip(count * _SIZES[code]))

    def text(self) -> str:
        """The next text."""
        (size,) = self.unpack(_COUNT)
        try:
            return self.bytes(size).decode("utf-8", "surrogatepass")
        except UnicodeDecodeError as error:
            raise Malformed(f"a text in it is none: {error}") from error


def write_text(text: str) -> list[bytes]:
    """A text in bytes."""
    # Names come from models, which need not care for Unicode.
    encoded = text.encode("utf-8", "surrogatepass")
    return [_COUNT.pack(len(encoded)), encoded]


def read_layout(reader: Reader) -> Layout:
    """The layout that was written."""
    described = []
    (count,) = reader.unpack(_COUNT)
    for _ in range(count):
        name = reader.text()
        dtype, dimensions = reader.unpack(_DIMENSIONS)
        if dimensions > _MOST_DIMENSIONS:
            raise Malformed(f"a tensor of {dimensions} dimensions")
        shape = reader.numbers("Q", dimensions)
        try:
            described.append((name, to_numpy(dtype), shape))
        except InvalidArgument as error:
            raise Malformed(error.message) from error
    return make_layout(described)


class Writer:
    """The two areas of a body that is being written."""

    def __init__(self) -> None:
        self.small: list[bytes] = []
        self.large: list[Buffer] = []
        self.large_bytes = 0

    def write(self, layout: Layout, tensors: Mapping[str, Array]) -> None:
        """Add the elements of these tensors, of which this is the layout."""
        for tensor, values in zip(layout.tensors, tensors.values(), strict=True):
            if tensor.is_string:
                self._write_strings(values)
                continue
            if values.dtype is not tensor.form:
                values = values.astype(tensor.form, copy=False)
            if tensor.is_large:
                self._write_large(tensor, values)
            else:
                self.small.append(values.tobytes())
                if tensor.padding:
                    self.small.append(tensor.padding)

    def mark(self) -> tuple[int, int, int]:
        """How far it is written, for `take_back`."""
        return len(self.small), len(self.large), self.large_bytes

    def take_back(self, mark: tuple[int, int, int]) -> None:
        """Have what was written since then not written: others are read after what is there."""
        small, large, self.large_bytes = mark
        del self.small[small:], self.large[large:]

    def _write_large(self, tensor: Tensor, values: Array) -> None:
        # As bytes: not every element type of ours can be handed on as a buffer.
        self.large.append(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)
        if tensor.padding:
            self.large.append(tensor.padding)
        self.large_bytes += tensor.nbytes + len(tensor.padding)

    def _write_strings(self, values: Array) -> None:
        try:
            strings: list[bytes] = [
                value.encode() if isinstance(value, str) else value for value in values.ravel().tolist()
            ]
            lengths = array("I", map(len, strings)).tobytes()
            content = b"".join(strings)
        except (TypeError, OverflowError, UnicodeEncodeError) as error:
            raise InvalidArgument(f"a string tensor holds bytes or str, and one value is neither ({error})") from error
        size = len(lengths) + len(content)
        self.small += (_STRINGS.pack(size), lengths, content, _PADDING[: -size % _SMALL_ALIGNMENT])


class Areas:
    """The two areas of a body that is being read, and how far that is."""

    def __init__(self, body: Memory, small: int, small_end: int, large: int) -> None:
        """Where the first area begins and ends, and where the second begins, which ends with the body."""
        self._body = body
        self._small, self._small_end = small, small_end
        self._large, self._large_end = large, len(body)

    def read(self, layout: Layout) -> dict[str, Array]:
        """The tensors that come next, which have this layout; they look into the body."""
        if layout.has_strings:
            return {tensor.name: self._read_any(tensor) for tensor in layout.tensors}
        small, large = self._small, self._large
        self._small = small + layout.small_bytes
        self._large = large + layout.large_bytes
        if self._small > self._small_end or self._large > self._large_end:
            raise Malformed("it has fewer elements than its shapes say")
        body = self._body
        if layout.is_small:
            return {
                name: np.ndarray(shape, form, body, small + at)
                for name, form, shape, _, _, _, at in layout.tensors
            }
        return {
            tensor.name: np.ndarray(tensor.shape, tensor.form, body, (large if tensor.is_large else small) + tensor.at)
            for tensor in layout.tensors
        }

    def check_end(self) -> None:
        """Raise Malformed if something is left."""
        if (self._small, self._large) != (self._small_end, self._large_end):
            raise Malformed("it has more elements than its shapes say")

    def _read_any(self, tensor: Tensor) -> Array:
        if tensor.is_string:
            return self._read_strings(tensor)
        size = tensor.nbytes + len(tensor.padding)
        if tensor.is_large:
            at, self._large = self._large, self._large + size
        else:
            at, self._small = self._small, self._small + size
        if self._small > self._small_end or self._large > self._large_end:
            raise Malformed("it has fewer elements than its shapes say")
        return np.ndarray(tensor.shape, tensor.form, self._body, at)

    def _read_strings(self, tensor: Tensor) -> Array:
        reader = Reader(self._body, self._small)
        (size,) = reader.unpack(_STRINGS)
        begin = reader.at
        count = math.prod(tensor.shape)
        if count * 4 > size:
            raise Malformed("it has fewer strings than its shape says")
        lengths = reader.numbers("I", count)
        content = reader.bytes(size - 4 * count)
        if sum(lengths) != len(content):
            raise Malformed("its strings are not as long as they say")
        reader.at = begin + size
        reader.skip(-size % _SMALL_ALIGNMENT)
        if reader.at > self._small_end:
            raise Malformed("its strings go beyond their end")
        self._small = reader.at
        strings = np.empty(count, np.object_)
        at = 0
        for index, length in enumerate(lengths):
            strings[index] = content[at : at + length]
            at += length
        return strings.reshape(tensor.shape)
