"""Names of columns against signatures: what fits, and what is told of what does not."""

from __future__ import annotations

from typing import Any

import pytest

from serving_app.core.errors import FailedPrecondition, InvalidArgument
from serving_app.core.signatures import DType
from serving_app.data.columns import Layout, fit_columns, to_columns
from tests.data.signatures import ROW, signature

TWO = signature({"x": ROW, "w": ROW}, {"y": ROW, "z": ROW})


@pytest.mark.parametrize(
    ("given", "present", "layout"),
    [
        pytest.param(
            {}, ["w", "x", "k"], Layout({"w": ("w",), "x": ("x",)}, {"y": "y", "z": "z"}, ("w", "x", "k")),
            id="own names",
        ),
        pytest.param(
            {"inputs": {"x": "a", "w": ["b", "c"]}}, ["a", "b", "c"],
            Layout({"w": ("b", "c"), "x": ("a",)}, {"y": "y", "z": "z"}, ("a", "b", "c")), id="other names, several",
        ),
        pytest.param(
            {"outputs": {"z": "score"}, "keep": ["x", "x"]}, ["x", "w"],
            Layout({"w": ("w",), "x": ("x",)}, {"z": "score"}, ("x",)), id="some outputs, some columns",
        ),
        pytest.param(
            {"outputs": ["y"], "keep": []}, ["x", "w", "z"],
            Layout({"w": ("w",), "x": ("x",)}, {"y": "y"}, ()), id="outputs as a list, no column kept",
        ),
    ],
)
def test_columns_fit(given: dict[str, Any], present: list[str], layout: Layout) -> None:
    """Inputs and outputs have the columns that the user names, else those of their own names."""
    assert fit_columns(to_columns(**given), TWO, present) == layout


def test_what_is_read_is_what_is_kept_and_what_goes_in() -> None:
    """A column is read if it is kept or an input, and only once."""
    assert Layout({"x": ("a", "b"), "w": ("a",)}, {"y": "y"}, ("k", "b")).read == ["k", "b", "a"]


@pytest.mark.parametrize(
    ("given", "present", "message"),
    [
        pytest.param({}, ["x", "k"], r"missing: input 'w' wants 'w'. There are 'x', 'k'; tell which", id="missing"),
        pytest.param(
            {"inputs": {"x": ["a", "b"]}}, ["b"], r"input 'w' wants 'w'; input 'x' wants 'a'. There are 'b'",
            id="several missing",
        ),
        pytest.param({"inputs": {"v": "x"}}, ["x", "w"], r"no input 'v'; its inputs are 'w', 'x'", id="no such input"),
        pytest.param({"outputs": {"v": "x"}}, ["x", "w"], r"no output 'v'; its outputs are 'y', 'z'", id="no out"),
        pytest.param({"outputs": []}, ["x", "w"], r"no output is wanted", id="no output"),
        pytest.param({}, ["x", "w", "y"], r"column 'y' is there already, and output 'y' would", id="taken by a column"),
        pytest.param({"outputs": {"y": "a", "z": "a"}}, ["x", "w"], r"column 'a' is there already", id="taken twice"),
        pytest.param({"keep": ["q"]}, ["x", "w"], r"keep names 'q', which is no column; there are 'x', 'w'", id="keep"),
        pytest.param({}, ["x", "w", "error"], r"column 'error' is there already, and its name is", id="reserved"),
        pytest.param({}, ["x", "w", "k", "x"], r"there are several columns 'x'; give each", id="columns of one name"),
        pytest.param({"inputs": {"x": []}}, ["x", "w"], r"no column is given for input 'x'", id="no column"),
        pytest.param({"keep": "x"}, ["x", "w"], r"take lists of names", id="a name for a list"),
    ],
)
def test_what_does_not_fit_is_told(given: dict[str, Any], present: list[str], message: str) -> None:
    """An error names what is missing or twice there, and what there is."""
    with pytest.raises(InvalidArgument, match=message):
        fit_columns(to_columns(**given), TWO, present, reserved=("error",))


@pytest.mark.parametrize(
    ("inputs", "outputs", "message"),
    [
        pytest.param({"x": (DType.FLOAT, ())}, {"y": ROW}, r"'x' has the shape \[\], and not one row", id="scalar"),
        pytest.param({"x": (DType.FLOAT, (1, 3))}, {"y": ROW}, r"input 'x' has the shape \[1, 3\]", id="one row only"),
        pytest.param({"x": ROW}, {"y": (DType.FLOAT, (4,))}, r"output 'y' .* leave it out by naming", id="no rows out"),
    ],
)
def test_signatures_that_take_no_rows_are_refused(
    inputs: dict[str, Any], outputs: dict[str, Any], message: str
) -> None:
    """A signature whose first dimension is not free cannot be asked for many rows at once."""
    with pytest.raises(FailedPrecondition, match=message):
        fit_columns(to_columns(), signature(inputs, outputs), ["x"])


def test_an_output_that_is_not_wanted_may_be_of_any_shape() -> None:
    """What is left out by name is not looked at."""
    layout = fit_columns(to_columns(outputs=["y"]), signature({"x": ROW}, {"y": ROW, "n": (DType.INT64, ())}), ["x"])
    assert layout.outputs == {"y": "y"}
