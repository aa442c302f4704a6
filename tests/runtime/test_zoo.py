"""Every model of the zoo answers as TensorFlow's Python package does."""

from __future__ import annotations

import numpy as np
import pytest

from serving_app.runtime import LoadOptions, loader_for
from tests.zoo import Zoo

NAMES = [
    *("half_plus_two", "dense", "conv", "lookup", "parser", "many", "counter", "composite", "dtypes", "several"),
    *("tf1", "slow", "strings", "heavy", "custom_op", "missing_tensor", "heads"),
]


@pytest.mark.parametrize("name", NAMES)
def test_answers_are_those_of_tensorflow(zoo: Zoo, name: str) -> None:
    """Values, element types and shapes of every example are what `tf.saved_model.load` gave for it."""
    options = LoadOptions(custom_op_libraries=(f"{zoo.base(name)}/add_one.so",) if name == "custom_op" else ())
    examples = zoo.examples(name)
    versions = {
        version: loader_for("tensorflow").load(zoo.path(name, version), options)
        for version in sorted({example.version for example in examples})
    }
    assert examples
    for example in examples:
        outputs = versions[example.version].run(example.signature, example.inputs)
        assert outputs.keys() == example.outputs.keys()
        for output, right in example.outputs.items():
            check_equal(outputs[output], right)
    for servable in versions.values():
        servable.close()


def check_equal(got: np.ndarray, right: np.ndarray) -> None:
    """Same shape and values; a string tensor, which TensorFlow may give as bytes, is an array of bytes objects."""
    assert got.shape == right.shape
    if got.dtype.kind == "O":
        assert right.dtype.kind in "SO"
        assert all(type(value) is bytes for value in got.flat)
        assert got.tolist() == right.tolist()
        return
    assert got.dtype == right.dtype
    if got.dtype.kind in "fc" and got.dtype.itemsize > 2:
        np.testing.assert_allclose(got, right, rtol=1e-5)
    else:
        assert got.tolist() == right.tolist()
