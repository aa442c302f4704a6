"""Rows are run together, and a bad one fails alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from serving_app.core.errors import FailedPrecondition, InvalidArgument, ServingError, Unavailable
from serving_app.core.signatures import DType, Signature
from serving_app.data.columns import fit_columns, to_columns
from serving_app.data.scoring import Scored, score
from tests.data.signatures import ROW, signature

HALF = signature({"x": ROW}, {"y": ROW})
ANY = signature({"x": (DType.FLOAT, (-1, -1))}, {"y": ROW})


class Runs:
    """Computes in place of a servable, and remembers how many rows came together."""

    def __init__(self, compute: Callable[..., Any], rows_per_run: int | None = None, parallel: int = 1) -> None:
        self.rows_per_run = rows_per_run
        self.parallel = parallel
        self._compute = compute
        self.sizes: list[int] = []

    def run(self, inputs: Any) -> Any:
        self.sizes.append(len(next(iter(inputs.values()))))
        return {"y": self._compute(**inputs)}


def half(x: Any) -> Any:
    return x / 2


def no_sevens(x: Any) -> Any:
    """Refuses a whole run for one row in it."""
    if (x == 7).any():
        raise InvalidArgument("seven")
    return half(x)


def run(
    columns: dict[str, Any], runs: Runs, wanted: Signature = HALF, inputs: Any = None, most_bad: int | None = None
) -> Scored:
    table = pa.table(columns)
    layout = fit_columns(to_columns(inputs, outputs=["y"]), wanted, table.column_names)
    return score(table, layout, wanted, runs, most_bad)


def test_good_rows_are_one_run() -> None:
    """Without a bad row everything is run at once."""
    runs = Runs(half)
    scored = run({"x": [1, 2, 5]}, runs)
    assert scored.columns["y"].to_pylist() == [0.5, 1.0, 2.5]
    assert (runs.sizes, scored.bad) == ([3], ())


def test_no_rows_are_no_run() -> None:
    """A table without rows has columns of the right types, and nobody is asked."""
    runs = Runs(half)
    scored = run({"x": pa.array([], pa.float32())}, runs)
    assert scored.columns["y"] == pa.array([], pa.float32())
    assert runs.sizes == []


@pytest.mark.parametrize("parallel", [1, 3])
def test_runs_are_no_larger_than_they_may_be(parallel: int) -> None:
    """Rows are cut into runs, which may be under way together, and keep their order."""
    runs = Runs(half, rows_per_run=4, parallel=parallel)
    scored = run({"x": list(range(10))}, runs)
    assert scored.columns["y"].to_pylist() == [row / 2 for row in range(10)]
    assert sorted(runs.sizes) == [2, 4, 4]


@pytest.mark.parametrize(
    ("column", "wanted", "bad"),
    [
        pytest.param([1.0, None, 3.0], HALF, {1: "null"}, id="a null"),
        pytest.param([[1.0], [2.0], [1.0, 2.0]], HALF, {2: r"rows have the shape \[2\], and input 'x' takes \[\]"},
                     id="a row of another shape"),
        pytest.param(["1", "2"], HALF, {0: "must be of type float", 1: "must be of type float"}, id="texts"),
        pytest.param([[1.0], None, [3.0, None]], ANY, {1: "null", 2: "null"}, id="a null within"),
    ],
)
def test_rows_that_cannot_be_read_are_named(column: list[Any], wanted: Signature, bad: dict[int, str]) -> None:
    """Each bad row is named with its reason and has no outputs, and the others are run."""
    scored = run({"x": column}, Runs(lambda x: x.sum(axis=1) if x.ndim > 1 else x), wanted)
    assert {each.row for each in scored.bad} == bad.keys()
    for each in scored.bad:
        with pytest.raises(InvalidArgument, match=bad[each.row]):
            raise InvalidArgument(each.reason)
    assert [value is None for value in scored.columns["y"].to_pylist()] == [row in bad for row in range(len(column))]


def test_rows_of_several_shapes_run_apart() -> None:
    """Where the signature leaves a size open, rows of each size are a run, and the order stays."""
    runs = Runs(lambda x: x.sum(axis=1))
    scored = run({"x": [[1.0], [1.0, 2.0], [3.0], []]}, runs, ANY)
    assert scored.columns["y"].to_pylist() == [1.0, 3.0, 3.0, 0.0]
    assert sorted(runs.sizes) == [1, 1, 2]


@pytest.mark.parametrize(
    ("columns", "shape", "inputs", "given"),
    [
        pytest.param({"x": [1.0, 2.0]}, (-1, 1), None, (2, 1), id="a number as a row of one"),
        pytest.param({"x": [[1.0] * 6] * 2}, (-1, 2, 3), None, (2, 2, 3), id="a flat list as a grid"),
        pytest.param({"a": [1, 2], "b": [3.0, 4.0]}, (-1, 2), {"x": ["a", "b"]}, (2, 2), id="columns side by side"),
        pytest.param({"a": [[1, 2]], "b": [3.0]}, (-1, 3), {"x": ["a", "b"]}, (1, 3), id="a list and a number"),
        pytest.param({"x": [[[1.0, 2.0]]]}, (-1, -1, 2), None, (1, 1, 2), id="lists of lists"),
    ],
)
def test_rows_get_the_shape_that_the_signature_wants(
    columns: dict[str, Any], shape: tuple[int, ...], inputs: Any, given: tuple[int, ...]
) -> None:
    """What a table holds flat is put into the input's shape."""
    shapes = []

    def compute(x: Any) -> Any:
        shapes.append((x.shape, x.dtype))
        return x.reshape(len(x), -1).sum(axis=1)

    run(columns, Runs(compute), signature({"x": (DType.FLOAT, shape)}, {"y": ROW}), inputs)
    assert shapes == [(given, np.float32)]


def test_rows_that_fail_a_run_are_found() -> None:
    """A run that fails because of some rows is halved until they are found; the others have their outputs."""
    scored = run({"x": [1, 7, 3, 4, 7]}, Runs(no_sevens))
    assert scored.columns["y"].to_pylist() == [0.5, None, 1.5, 2.0, None]
    assert [(each.row, each.reason) for each in scored.bad] == [(1, "seven"), (4, "seven")]


def test_the_search_ends_when_enough_are_found() -> None:
    """Who fails anyway need not know every bad row."""
    runs = Runs(no_sevens)
    assert len(run({"x": [7] * 1000}, runs, most_bad=2).bad) == 2
    assert len(runs.sizes) < 20


def test_an_error_of_the_servable_is_no_bad_row() -> None:
    """Where nobody can answer no row is to blame, and the error is raised as it is."""

    def gone(x: Any) -> Any:
        raise Unavailable("gone")

    with pytest.raises(Unavailable, match="gone"):
        run({"x": [1, 2, 3]}, Runs(gone))
    with pytest.raises(Unavailable, match="gone"):
        run({"x": [1, 2, 3]}, Runs(gone, rows_per_run=1, parallel=2))


@pytest.mark.parametrize("answer", [np.float32(1.0), np.zeros(7, np.float32)])
def test_outputs_without_a_row_for_each_are_refused(answer: Any) -> None:
    """An output that has not as many rows as went in belongs to none of them."""
    with pytest.raises(FailedPrecondition, match=r"output 'y' came with the shape .* for 2 rows"):
        run({"x": [1, 2]}, Runs(lambda x: np.asarray(answer)))


def test_bytes_that_are_no_text_say_what_to_do() -> None:
    """A column of texts cannot hold any bytes, but one by the right name can."""
    wanted = signature({"x": ROW}, {"y": (DType.STRING, (-1,))})
    with pytest.raises(ServingError, match="name that ends in _bytes"):
        run({"x": [1]}, Runs(lambda x: np.array([b"\xff"], object)), wanted)
