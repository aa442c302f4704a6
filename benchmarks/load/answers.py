"""What a right answer is: the checks that every answer of a load passes.

An answer that has the same bytes as one that was found right needs no second look, so checking costs next to nothing
where a server answers the same request in the same bytes each time. What differs is read and compared by its numbers:
batches of other sizes may differ in the last bits.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
_KEPT = 64
"""So many different right answers are remembered."""


class Answers:
    """Checks answers to one request. `read` gets an output's values out of an answer, in any shape."""

    def __init__(self, read: Callable[[bytes], Array], expected: Array) -> None:
        self._read = read
        self._expected = np.ravel(expected)
        self._right: set[bytes] = set()

    def find_wrong(self, answer: bytes) -> str | None:
        """What is wrong with this answer; None if nothing is."""
        if answer in self._right:
            return None
        try:
            values = np.ravel(self._read(answer))
        except Exception as error:
            return f"an answer that cannot be read ({type(error).__name__}: {error}): {answer[:300]!r}"
        if not _are_close(values, self._expected):
            return f"a wrong answer: {values[:8]} … instead of {self._expected[:8]} …"
        if len(self._right) < _KEPT:
            self._right.add(answer)
        return None


def _are_close(values: Array, expected: Array) -> bool:
    return values.shape == expected.shape and bool(
        np.allclose(values.astype(np.float64), expected.astype(np.float64), rtol=1e-3, atol=1e-5)
    )


def from_json(output: str) -> Callable[[bytes], Array]:
    """A reader of JSON in every form that the servers use: rows or columns as TensorFlow Serving has them, the open
    inference protocol's list of tensors, or the bare value."""

    def read(answer: bytes) -> Array:
        value = json.loads(answer)
        if isinstance(value, dict):
            value = value["predictions"] if "predictions" in value else value["outputs"]
        if isinstance(value, dict):
            value = value[output]
        if isinstance(value, list) and value and isinstance(value[0], dict):
            if "data" in value[0]:
                value = next(tensor["data"] for tensor in value if tensor["name"] == output)
            else:
                value = [row[output] for row in value]
        return np.asarray(value)

    return read


def from_predict_response(output: str) -> Callable[[bytes], Array]:
    """A reader of TensorFlow Serving's PredictResponse."""
    from serving_app.protocol.predict_proto import decode_predict_response

    return lambda answer: decode_predict_response(answer)[1][output]


def from_infer_response(output: str) -> Callable[[bytes], Array]:
    """A reader of the open inference protocol's ModelInferResponse."""
    from benchmarks.load import open_inference

    return lambda answer: open_inference.decode_response(answer)[output]


READERS: dict[str, Callable[[str], Callable[[bytes], Array]]] = {
    "json": from_json,
    "predict": from_predict_response,
    "infer": from_infer_response,
}
