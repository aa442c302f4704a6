"""The first value of one of a request's inputs, as a text: what traffic may be shared by.

A request is looked at before it is known which version answers it, and so by no signature. What cannot be made out says
nothing here; if it is wrong, the version that is found will say so. A number is written in the shortest way, so it is
the same by whichever protocol and in whichever element type it comes: 7 also as 7.0, 0.1 also as a float of 32 bits.

All of it happens on event loops, so no more of a request is read than the value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from serving_app.core.errors import ServingError
from serving_app.protocol import messages
from serving_app.protocol.columns import columns_of, plain
from serving_app.protocol.json_parser import JsonValue
from serving_app.protocol.json_predict import PredictBody
from serving_app.protocol.json_tensor import decode_base64, is_base64
from serving_app.protocol.model_spec_proto import parse
from serving_app.protocol.tensor_proto import decode_first


def first_of_body(body: PredictBody, name: str) -> str | None:
    """In a JSON request of `:predict`. Where it names no input there is only one."""
    grid = body.grid
    if grid is not None:
        return _to_text(grid.values.flat[0]) if grid.name in (None, name) and grid.values.size else None
    given = body.members.get("inputs")
    if isinstance(rows := body.members.get("instances"), list) and rows:
        given = rows[0]
    if isinstance(given, dict) and not is_base64(given):
        given = given.get(name)
    return _first_of_json(given)


def _first_of_json(value: JsonValue) -> str | None:
    while isinstance(value, list):
        if not value:
            return None
        value = value[0]
    if isinstance(value, dict):
        try:
            return _to_text(decode_base64(value))
        except ServingError:
            return None
    return None if value is None else _to_text(value)


def first_of_inputs(inputs: Mapping[str, Any], name: str) -> str | None:
    """Among inputs that are arrays, or TensorProtos."""
    given = inputs.get(name)
    if given is None:
        return None
    if isinstance(given, np.ndarray):
        return _to_text(given.flat[0]) if given.size else None
    try:
        first = decode_first(given, name)
    except ServingError:
        return None
    return None if first is None else _to_text(first)


def first_of_given(given: Any, name: str) -> str | None:
    """Among inputs as a Python caller gives them: columns by name, or one value without a name."""
    columns = columns_of(given)
    value = given if columns is None else columns.get(name)
    try:
        value = plain(value)
    except ValueError:
        return None
    while isinstance(value, list | tuple):
        if not value:
            return None
        value = value[0]
    if isinstance(value, np.ndarray):
        return _to_text(value.flat[0]) if value.size else None
    return None if value is None else _to_text(value)


def first_of_examples(examples: Sequence[bytes], name: str) -> str | None:
    """Among the features of the first of these serialized tf.Examples."""
    if not examples:
        return None
    try:
        features = parse(messages.Example, examples[0]).features.feature
    except ServingError:
        return None
    if name not in features:
        return None
    feature = features[name]
    kind = feature.WhichOneof("kind")
    values = getattr(feature, kind).value if kind else ()
    if not values:
        return None
    return _to_text(np.float32(values[0]) if kind == "float_list" else values[0])


def _to_text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    if isinstance(value, float | np.floating):
        return str(int(value)) if -_EXACT < float(value) < _EXACT and value == int(value) else str(value)
    return str(value)


_EXACT = 1e15
"""Below this an integer is written in full, whatever it came as."""
