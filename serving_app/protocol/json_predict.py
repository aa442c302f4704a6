"""The JSON requests of `:predict` into arrays.

A request is read in steps, because TensorFlow Serving looks the servable up between them: bad JSON sent to an unknown
model is a syntax error, a bad shape sent to it is "not found".

    body = parse_predict(text)
    …the route of the servable…
    signature = find_signature(body, route.signatures)
    inputs = decode_inputs(body, signature)
    …the call…
    answer = json_answer.encode_outputs(outputs, is_row=body.is_row, style=…)

A request has one of two formats, and its answer has the same. In the *row* format, `instances` lists the examples, and
each input is the stack of what its examples say; in the *columnar* format, `inputs` holds whole tensors. In both, names
may be left out if there is only one input, and are left out of the answer if there is only one output.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

import numpy as np

from serving_app.core.errors import InvalidArgument, ServingError
from serving_app.core.signatures import DEFAULT_SIGNATURE, Signature, TensorSpec
from serving_app.protocol import json_document, json_tensor
from serving_app.protocol.json_excerpt import excerpt
from serving_app.protocol.json_grid import find_grid
from serving_app.protocol.json_parser import JsonValue
from serving_app.protocol.json_tensor import Array, Elements, is_base64

_INSTANCES = "instances"
_INPUTS = "inputs"


@dataclass(frozen=True, slots=True)
class _PlacedGrid:
    """A tensor that was read already, where it belongs, and the whole text for the case that it will not do."""

    values: Array
    name: str | None  # of the input, where the request has it
    text: bytes


class PredictBody(NamedTuple):
    """A request whose text was understood, but not yet its tensors."""

    signature_name: str  # as the client wrote it; empty if it did not
    members: dict[str, Any]  # those of the top level
    grid: _PlacedGrid | None = None  # then its place among the members is empty

    @property
    def is_row(self) -> bool:
        """True for the row format, in requests that `decode_inputs` accepts."""
        return _INSTANCES in self.members


_LARGE = 1 << 14
"""Larger texts are tried to be read as one tensor of numbers; below, that would gain nothing."""


def parse_predict(text: bytes, *, large: int = _LARGE) -> PredictBody:
    """The first step: JSON syntax, an object, a signature name. InvalidArgument if one of them is missing."""
    body = _parse_grid(text) if len(text) > large else None
    return body or read_document(json_document.parse(text))


def _parse_grid(text: bytes) -> PredictBody | None:
    """The same for a text that is one large tensor of numbers and little else; None if it is not, or not right."""
    grid = find_grid(text)
    # A null holds its place, and must be the only one.
    if grid is None or b"null" in grid.before or b"null" in grid.after:
        return None
    try:
        body = read_document(json_document.parse(grid.before + b"null" + grid.after))
    except InvalidArgument:
        return None
    values, members = grid.values, body.members
    name: str | None = None
    match members.get(_INSTANCES, members.get(_INPUTS, False)):
        case None:
            pass
        case dict(named) if _INPUTS in members and list(named.values()) == [None]:
            name = next(iter(named))
        case [dict(named)] if _INSTANCES in members and list(named.values()) == [None]:
            name = next(iter(named))
            values = values[np.newaxis]
        case _:
            return None
    return PredictBody(body.signature_name, members, _PlacedGrid(values, name, text))


def read_document(document: JsonValue) -> PredictBody:
    """The first step for a text that is parsed already: an object, a signature name."""
    if not isinstance(document, dict):
        raise InvalidArgument(f"JSON Value: {excerpt(document)} Is not object")
    signature_name = document.get("signature_name", "")
    if not isinstance(signature_name, str):
        raise InvalidArgument(
            f"JSON Value: {excerpt(signature_name)} not formatted correctly."
            " 'signature_name' key must be a string value."
        )
    return PredictBody(signature_name, document)


def find_signature(body: PredictBody, signatures: Mapping[str, Signature]) -> Signature:
    """The signature that a request means; InvalidArgument if the servable has none of that name."""
    name = body.signature_name or DEFAULT_SIGNATURE
    signature = signatures.get(name)
    if signature is None:
        raise InvalidArgument(f'Serving signature name: "{name}" not found in signature def')
    return signature


def decode_inputs(body: PredictBody, signature: Signature) -> dict[str, Array]:
    """The tensors of a request, by the names that the signature gives its inputs.

    Shapes are not compared with the signature, as in TensorFlow Serving: the model knows better what it can take.
    """
    inputs = signature.inputs
    signature_name, members, grid = body
    if grid is not None:
        array = _decode_grid(body, grid, inputs)
        if array is not None:
            return dict.fromkeys(inputs, array)
        members = read_document(json_document.parse(grid.text)).members
    if not inputs:
        raise InvalidArgument(f"Failed to get input map for signature: {signature_name or 'DEFAULT'}")
    if _INSTANCES in members:
        if _INPUTS in members:
            raise InvalidArgument(
                f"JSON Value: {excerpt(members)} Not formatted correctly expecting only one of"
                " 'inputs' or 'instances' keys to exist "
            )
        return _decode_rows(members[_INSTANCES], inputs)
    if _INPUTS in members:
        return _decode_columns(members[_INPUTS], inputs)
    raise InvalidArgument("Missing 'inputs' or 'instances' key")


def _decode_grid(body: PredictBody, grid: _PlacedGrid, inputs: Mapping[str, TensorSpec]) -> Array | None:
    """The tensor of the only input; None if there is more to say about the request."""
    if len(inputs) != 1 or (_INSTANCES in body.members and _INPUTS in body.members):
        return None
    ((name, spec),) = inputs.items()
    if grid.name not in (None, name):
        return None
    return json_tensor.convert(grid.values, spec.dtype)


# --- columnar --------------------------------------------------------------------------------------------------------


def _decode_columns(value: JsonValue, inputs: Mapping[str, TensorSpec]) -> dict[str, Array]:
    if isinstance(value, dict) and not is_base64(value):
        for name in inputs:
            if name not in value:
                raise InvalidArgument(f"Missing named input: {name} in 'inputs' object.")
        return {name: json_tensor.decode(value[name], spec.dtype) for name, spec in inputs.items()}
    if len(inputs) > 1:
        raise InvalidArgument(
            "inputs is a plain value/list, but expecting an object as multiple input tensors required"
            " as per tensorinfo_map"
        )
    return {name: json_tensor.decode(value, spec.dtype) for name, spec in inputs.items()}


# --- row -------------------------------------------------------------------------------------------------------------


def _decode_rows(instances: JsonValue, inputs: Mapping[str, TensorSpec]) -> dict[str, Array]:
    if not isinstance(instances, list):
        raise InvalidArgument(f"JSON Value: {excerpt(instances)} Expecting 'instances' to be an list/array")
    if not instances:
        raise InvalidArgument(f"JSON Value: {excerpt(instances)} No values in 'instances' array")
    decoded = decode_rows_quickly(instances, inputs)
    return decode_rows_exactly(instances, inputs) if decoded is None else decoded


def decode_rows_quickly(instances: list[Any], inputs: Mapping[str, TensorSpec]) -> dict[str, Array] | None:
    """What `decode_rows_exactly` gives, or None if that needs a closer look."""
    decoded = {}
    is_named = type(instances[0]) is dict
    if is_named:
        names = inputs.keys()
        if "b64" in names:  # then it is more difficult to tell names from strings
            return None
        for row in instances:
            if type(row) is not dict or row.keys() != names:
                return None
    elif len(inputs) > 1:
        return None
    for name, spec in inputs.items():
        column = [row[name] for row in instances] if is_named else instances
        array = json_tensor.read_quickly(column, spec.dtype)
        if array is None:
            return None
        decoded[name] = array
    return decoded


def decode_rows_exactly(instances: list[Any], inputs: Mapping[str, TensorSpec]) -> dict[str, Array]:
    """The tensors of a list of examples, read one example after the other; or the error for the first mistake."""
    is_named = _is_named(instances[0])
    if not isinstance(instances[0], dict) and len(inputs) > 1:
        raise InvalidArgument(
            "instances is a plain list, but expecting list of objects as multiple input tensors required"
            " as per tensorinfo_map"
        )
    columns: dict[str, Elements] = {}
    # If the first example is a base64 object, several inputs get here: one is filled, and their number will not do.
    only_input = next(iter(inputs))
    for index, row in enumerate(instances):
        where = f"Failed to process element: {index}"
        if is_named:
            if not _is_named(row):
                raise InvalidArgument(f"Expecting object but got list at item {index} of input list")
            for name, value in row.items():
                try:
                    _append(columns, name, value, inputs)
                except ServingError as error:
                    raise _wrap(f"{where} key: {name}", error) from error
            if row.keys() != inputs.keys():
                names = ",".join(sorted(inputs))
                raise InvalidArgument(
                    f"{where} of 'instances' list. JSON object: {excerpt(row)} keys must be equal to: {names}"
                )
        else:
            if _is_named(row):
                raise InvalidArgument(f"Expecting value/list but got object at item {index} of input list")
            try:
                _append(columns, only_input, row, inputs)
            except ServingError as error:
                raise _wrap(where, error) from error
    return {
        name: json_tensor.to_array(columns[name].values, (len(instances), *columns[name].shape), spec.dtype)
        for name, spec in inputs.items()
        if name in columns
    }


def _is_named(row: JsonValue) -> bool:
    """True for an example that gives its inputs by name."""
    return type(row) is dict and not is_base64(row)


def _append(columns: dict[str, Elements], name: str, value: JsonValue, inputs: Mapping[str, TensorSpec]) -> None:
    """Adds one example's value of one input to those before it, which it must resemble."""
    if name not in inputs:
        raise InvalidArgument(f"JSON object: does not have named input: {name}")
    elements = json_tensor.read(value, inputs[name].dtype)
    column = columns.get(name)
    if column is None:
        columns[name] = elements
        return
    size = prod(column.shape)
    if len(elements.values) != size:
        raise InvalidArgument(f"Expecting tensor size: {size} but got: {len(elements.values)}")
    if elements.shape != column.shape:
        raise InvalidArgument(f"Expecting shape {_shape_text(column.shape)} but got: {_shape_text(elements.shape)}")
    column.values.extend(elements.values)


def _shape_text(shape: tuple[int, ...]) -> str:
    return "[" + ",".join(map(str, shape)) + "]"


def _wrap(where: str, error: ServingError) -> InvalidArgument:
    return InvalidArgument(f"{where} of 'instances' list. Error: {error.code.name}: {error.message}")
