"""Tensors and examples as the JSON that servers read, and tensors out of the JSON that they write.

Where the signature is known, an answer's tensors have its types. Where it is not, JSON's own kinds decide: integers
become int64, other numbers double, strings bytes.
"""

from __future__ import annotations

import itertools
from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from serving_app.core.errors import InvalidArgument, ServingError, Unimplemented
from serving_app.core.signatures import DType, TensorSpec
from serving_app.protocol import dtypes, json_document, json_tensor, json_text, messages
from serving_app.protocol.json_excerpt import excerpt
from serving_app.protocol.json_grid import find_grid
from serving_app.remote.calls import UnfitAnswer

Array = np.ndarray[Any, Any]

_LARGE = 1 << 14
"""Larger answers are tried to be read as one tensor of numbers; below, that would gain nothing."""

_BLANKS = b" \t\r\n"


def input_text(name: str, array: Array) -> bytes:
    """A tensor as JSON; Unimplemented if JSON has no way to say its type."""
    dtype = dtypes.from_numpy(array.dtype)
    if dtype is DType.STRING:
        return _strings_text(array)
    if dtype not in json_text.WRITABLE:
        raise Unimplemented(f"input {name!r} is of type {dtype.label}, which JSON cannot say; ask by gRPC")
    return json_text.tensor_text(array)


def examples_text(examples: Sequence[bytes]) -> bytes:
    """Serialized tf.Examples as a JSON list of objects; InvalidArgument, with its number, if one is none."""
    return b"[" + b",".join(itertools.starmap(_example_text, enumerate(examples))) + b"]"


def read_document(body: bytes, member: str) -> Any:
    """What the only member of a right answer says; UnfitAnswer if it is not there."""
    try:
        document = json_document.parse(body)
    except ServingError as error:
        raise UnfitAnswer(f"the answer is no JSON ({error}): {body[:200]!r}") from error
    if not isinstance(document, dict) or member not in document:
        raise UnfitAnswer(f"the answer has no {member!r}: {excerpt(document)}")
    return document[member]


def read_outputs(body: bytes, specs: Mapping[str, TensorSpec] | None) -> dict[str, Array]:
    """The outputs in the answer to a request by columns; UnfitAnswer if they are not those of the signature."""
    if specs is not None and len(specs) == 1 and len(body) > _LARGE:
        ((name, spec),) = specs.items()
        array = _read_grid(body, spec.dtype)
        if array is not None:
            return {name: array}
    value = read_document(body, "outputs")
    if specs is None:
        named = value if isinstance(value, dict) and not json_tensor.is_base64(value) else {"outputs": value}
        return {name: _guess(name, each) for name, each in named.items()}
    if len(specs) == 1:
        value = dict.fromkeys(specs, value)
    if not isinstance(value, dict) or value.keys() != specs.keys():
        raise UnfitAnswer(f"the answer's outputs are not {', '.join(map(repr, specs))}: {excerpt(value)}")
    return {name: _read(name, value[name], spec.dtype) for name, spec in specs.items()}


def read_numbers(value: Any) -> Array:
    """A list of floats; UnfitAnswer if it is none."""
    return _read("results", value, DType.FLOAT)


def read_classes(value: Any) -> list[list[tuple[str, float]]]:
    """Lists of pairs of a label and a score; UnfitAnswer if it is none."""
    try:
        return [[(_label(label), float(np.float32(score))) for label, score in row] for row in value]
    except (TypeError, ValueError) as error:
        raise UnfitAnswer(f"the results are no lists of a label and a score each: {excerpt(value)}") from error


def _label(label: Any) -> str:
    if not isinstance(label, str):
        raise TypeError(f"{label!r} is no label")
    return json_document.encode(label).decode(errors="backslashreplace")


def _read_grid(body: bytes, dtype: int) -> Array | None:
    """The only tensor of a large answer, if that is all there is."""
    grid = find_grid(body)
    if grid is None or grid.before.translate(None, _BLANKS) != b'{"outputs":' or grid.after.strip() != b"}":
        return None
    return json_tensor.convert(grid.values, dtype)


def _read(name: str, value: Any, dtype: int) -> Array:
    try:
        return json_tensor.decode(value, dtype)
    except ServingError as error:
        raise UnfitAnswer(f"the answer's {name!r} is no tensor of type {dtypes.label(dtype)}: {error}") from error


def _guess(name: str, value: Any) -> Array:
    element = value
    while isinstance(element, list) and element:
        element = element[0]
    if isinstance(element, bool):
        return _read(name, value, DType.BOOL)
    if isinstance(element, str | dict):
        return _read(name, value, DType.STRING)
    if isinstance(element, int):
        for dtype in (DType.INT64, DType.UINT64):
            array = json_tensor.read_quickly(value, dtype)
            if array is not None:
                return array
    return _read(name, value, DType.DOUBLE)


# --- strings and examples --------------------------------------------------------------------------------------------


def _strings_text(array: Array) -> bytes:
    raws = json_text.raw_strings(array)
    if all(map(_is_text, raws)):
        return json_text.tensor_text(array)
    texts = np.empty(len(raws), object)
    texts[:] = [_string_text(raw) for raw in raws]
    return _nest(texts.reshape(array.shape))


def _nest(texts: Array) -> bytes:
    if texts.ndim == 0:
        text: bytes = texts.item()
        return text
    return b"[" + b",".join([_nest(np.asarray(row, object)) for row in texts]) + b"]"


def _is_text(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


def _string_text(raw: bytes) -> bytes:
    """Text as a JSON string, other bytes by base64."""
    return json_text.string_text(raw) if _is_text(raw) else b'{"b64":"' + b64encode(raw) + b'"}'


def _example_text(number: int, encoded: bytes) -> bytes:
    try:
        features = messages.Example.FromString(encoded).features.feature
    except DecodeError as error:
        raise InvalidArgument(f"example {number} is no tf.Example: {error}") from error
    members = [json_text.string_text(name.encode()) + b":" + _feature_text(features[name]) for name in sorted(features)]
    return b"{" + b",".join(members) + b"}"


def _feature_text(feature: Any) -> bytes:
    kind = feature.WhichOneof("kind")
    if kind == "bytes_list":
        return b"[" + b",".join(map(_string_text, feature.bytes_list.value)) + b"]"
    if kind is None:
        return b"[]"
    form = np.float32 if kind == "float_list" else np.int64
    return json_text.tensor_text(np.array(getattr(feature, kind).value, form))
