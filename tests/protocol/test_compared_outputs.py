"""Answers of two versions to the same requests, compared."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from serving_app.core.comparison import Comparison, read_comparison
from serving_app.core.families import MIRROR_DIFFERENCE, MIRROR_OUTPUTS
from serving_app.core.metrics import Registry
from serving_app.core.traffic import Tolerance
from serving_app.protocol.compared_outputs import compare_outputs

PAIR = ("m", "1", "2")
NAN, INF = float("nan"), float("inf")


def f4(*values: Any) -> Any:
    return np.array(values, np.float32)


def counted(*pairs: tuple[dict[str, Any], dict[str, Any]], **tolerances: Tolerance) -> Comparison:
    """What is known after these answers."""
    registry = Registry()
    compare_outputs(pairs, tolerances).tell(registry, PAIR, "sig")
    return read_comparison(registry.counts(), "m", 1, 2)


@pytest.mark.parametrize(
    ("real", "copy", "tolerance", "agreement"),
    [
        (f4(1.0, 2.0), f4(1.0, 2.0), None, "same"),
        (f4(1.0, 2.0), f4(1.0, 2.001), None, "same"),
        (f4(1.0, 2.0), f4(1.0, 2.01), None, "different"),
        (f4(1.0, 2.0), f4(1.0, 2.01), Tolerance(0.1, 0.0), "same"),
        (f4(1000.0), f4(1009.0), Tolerance(0.0, 0.01), "same"),
        (f4(1000.0), f4(1011.0), Tolerance(0.0, 0.01), "different"),
        (f4(1000.0), f4(1011.0), Tolerance(2.0, 0.01), "same"),
        (f4(0.0), f4(1e-7), None, "same"),
        (f4(0.0), f4(1e-5), None, "different"),
        (f4(1.0), np.array([1.0]), None, "same"),
        (np.array([1.0], ml_dtypes.bfloat16), f4(1.0), None, "same"),
        (np.array([1.0], ml_dtypes.bfloat16), f4(2.0), None, "different"),
        (f4(NAN, INF), f4(NAN, INF), None, "same"),
        (f4(NAN), f4(1.0), Tolerance(9.0, 9.0), "different"),
        (f4(INF), f4(1.0), Tolerance(9.0, 9.0), "different"),
        (f4(INF), f4(-INF), Tolerance(9.0, 9.0), "different"),
        (f4(1.0), f4(INF), Tolerance(9.0, 9.0), "different"),
        (f4(), f4(), None, "same"),
        (f4(1.0), f4(1.0, 1.0), None, "unlike"),
        (f4(1.0), f4([1.0]), None, "unlike"),
        (f4(1.0), np.array([1]), None, "unlike"),
        (np.array([1000]), np.array([1001]), None, "different"),
        (np.array([1000]), np.array([1001]), Tolerance(1.0, 0.0), "same"),
        (np.array([2**63 - 1]), np.array([2**63 - 2]), None, "different"),
        (np.array([2**63 - 1]), np.array([2**63 - 2]), Tolerance(0.5, 0.0), "different"),
        (np.array([2**63 - 1]), np.array([2**63 - 2]), Tolerance(1.0, 0.0), "same"),
        (np.array([-(2**63)]), np.array([2**63 - 1]), Tolerance(1.8e19, 0.0), "different"),
        (np.array([-(2**63)]), np.array([2**63 - 1]), Tolerance(1.9e19, 0.0), "same"),
        (np.array([3], np.uint8), np.array([4], np.uint8), Tolerance(0.5, 0.0), "different"),
        (np.array([4], np.uint8), np.array([3], np.uint8), Tolerance(1.0, 0.0), "same"),
        (np.array([2**64 - 1], np.uint64), np.array([-1]), None, "different"),
        (np.array([2**64 - 1], np.uint64), np.array([-1]), Tolerance(9.0, 0.0), "different"),
        (f4(INF, 1.0), f4(INF, 2.0), Tolerance(9.0, 9.0), "same"),
        (f4(NAN, 1.0), f4(NAN, 2.0), None, "different"),
        (np.array([1.7e308]), np.array([-1.7e308]), Tolerance(9.0, 9.0), "different"),
        (np.array([1], np.uint8), np.array([1], np.int64), None, "same"),
        (np.array([True]), np.array([False]), None, "different"),
        (np.array([True]), np.array([True]), None, "same"),
        (np.array([1 + 2j]), np.array([1 + 2.001j]), None, "same"),
        (np.array([1 + 2j]), np.array([1 - 2j]), None, "different"),
        (np.array([b"a", b"b"], object), np.array([b"a", b"b"], object), None, "same"),
        (np.array([b"a", b"b"], object), np.array([b"a", b"c"], object), None, "different"),
        (np.array([b"a"], object), np.array([b"a", b"c"], object), None, "unlike"),
        (np.float32(1.0).reshape(()), np.float32(1.0).reshape(()), None, "same"),
        (np.float32(1.0).reshape(()), np.float32(2.0).reshape(()), None, "different"),
    ],
)
def test_what_is_the_same(real: Any, copy: Any, tolerance: Tolerance | None, agreement: str) -> None:
    """By the output's tolerance, whatever the values are; what has another shape or type is not comparable."""
    found = counted(({"y": real}, {"y": copy}), **({"y": tolerance} if tolerance else {}))
    assert found.cells[MIRROR_OUTPUTS.name] == {("sig", "y", agreement): 1}


LARGE = np.linspace(0.0, 1.0, 300_000, dtype=np.float32)


def with_one_other(array: Any, value: Any) -> Any:
    """The same but for a value far behind."""
    changed = array.copy()
    changed.reshape(-1)[-40_000] = value
    return changed


@pytest.mark.parametrize(
    ("real", "copy"),
    [
        (LARGE, with_one_other(LARGE, 9.0)),
        (LARGE.reshape(-1, 10), with_one_other(LARGE.reshape(-1, 10), 9.0)),
        (LARGE.reshape(1, -1), with_one_other(LARGE.reshape(1, -1), 9.0)),
        (LARGE.astype(ml_dtypes.bfloat16).reshape(3, -1), with_one_other(LARGE.reshape(3, -1), 9.0)),
        (np.arange(300_000), with_one_other(np.arange(300_000), 7)),
        (LARGE > 2, with_one_other(LARGE > 2, True)),
        (np.array([b"a"] * 300_000, object), with_one_other(np.array([b"a"] * 300_000, object), b"b")),
    ],
)
def test_large_outputs(real: Any, copy: Any) -> None:
    """Are compared piece by piece, and count as they would in one; each request has its own agreement."""
    small = {"y": real[:1]}, {"y": real[:1]}
    pairs = [small, ({"y": real}, {"y": real}), small, ({"y": real}, {"y": copy}), small]
    assert compare_outputs(pairs, {}).agreements == ["same", "same", "same", "different", "same"]
    found = counted(({"y": real}, {"y": copy})).outputs["sig", "y"]
    assert (found.same, found.different) == (0, 1)
    if real.dtype.kind in "fV":
        rows, columns = (real.size, 1) if real.ndim == 1 else real.shape
        assert sum(found.scores) == sum(found.candidate_scores) == rows
        assert found.top_same + found.top_different == (rows if columns > 1 else 0)
        assert found.top_different == (columns > 1)
        assert found.largest_absolute is not None
        assert 8.0 <= found.largest_absolute < 32.0


def test_sums_are_finite() -> None:
    """Of whatever values: one that is not would never go away again."""
    extreme = np.array([1.7e308, -1.7e308, INF, -INF, NAN, 1.0])
    registry = Registry()
    compare_outputs([({"y": extreme}, {"y": extreme[::-1]})] * 3, {}).tell(registry, PAIR, "sig")
    for cells in registry.counts().values():
        for cell in cells.values():
            assert not isinstance(cell, tuple) or 0.0 <= cell[-1] < INF


def test_an_output_that_is_absent() -> None:
    """One that the candidate lacks is missed, one that it has besides is not."""
    compared = compare_outputs([({"y": f4(1.0)}, {"z": f4(1.0)}), ({"y": f4(1.0)}, {"y": f4(1.0), "z": f4(2.0)})], {})
    assert compared.agreements == ["different", "same"]
    assert compared.counts == {(MIRROR_OUTPUTS.name, "y", "unlike"): 1, (MIRROR_OUTPUTS.name, "y", "same"): 1}


def test_many_requests_have_each_their_own_agreement() -> None:
    """However many rows each has, and whatever else was answered at the same time."""
    pairs = [
        ({"y": f4(1.0), "k": np.array([7])}, {"y": f4(1.0), "k": np.array([7])}),
        ({"y": f4(1.0, 2.0, 3.0), "k": np.array([7])}, {"y": f4(1.0, 2.0, 4.0), "k": np.array([7])}),
        ({"y": f4(), "k": np.array([7])}, {"y": f4(), "k": np.array([8])}),
        ({"y": f4(5.0, 6.0), "k": np.array([7])}, {"y": f4(5.0, 6.0), "k": np.array([7])}),
    ]
    assert compare_outputs(pairs, {}).agreements == ["same", "different", "different", "same"]
    found = counted(*pairs).outputs["sig", "y"]
    assert (found.same, found.different, found.unlike) == (3, 1, 0)
    assert found.different_share == 0.25
    assert counted(*pairs).outputs["sig", "k"].different_share == 0.25


def test_the_largest_difference() -> None:
    """Of each request, as far as the buckets tell: the first limit that is not below it."""
    pairs = ({"y": f4(1.0, 100.0)}, {"y": f4(1.5, 101.0)}), ({"y": f4(2.0)}, {"y": f4(2.0)})
    found = counted(*pairs).outputs["sig", "y"]
    assert found.largest_absolute is not None
    assert 1.0 <= found.largest_absolute < 4.0
    assert found.largest_relative is not None
    assert 0.5 <= found.largest_relative < 2.0
    apart = counted(({"y": f4(NAN)}, {"y": f4(1.0)}), ({"y": f4(0.0)}, {"y": f4(1.0)})).outputs["sig", "y"]
    assert (apart.largest_absolute, apart.largest_relative) == (MIRROR_DIFFERENCE.limits[-1],) * 2


@pytest.mark.parametrize(
    ("real", "copy", "same", "different"),
    [
        ([[0.1, 0.9], [0.8, 0.2]], [[0.2, 0.8], [0.3, 0.7]], 1, 1),
        ([[0.5, 0.5]], [[0.4, 0.6]], 1, 0),
        ([[0.4, 0.6]], [[0.5, 0.5]], 1, 0),
        ([[[0.1, 0.9], [0.8, 0.2]]], [[[0.1, 0.9], [0.8, 0.2]]], 2, 0),
        ([[0.1], [0.2]], [[0.9], [0.8]], 0, 0),
    ],
    ids=["two rows", "a tie", "a tie of the candidate's", "three dimensions", "one score a row"],
)
def test_the_highest_score(real: Any, copy: Any, same: int, different: int) -> None:
    """Of each row that has several: whether both have given it to the same."""
    found = counted(({"y": np.array(real, np.float32)}, {"y": np.array(copy, np.float32)})).outputs["sig", "y"]
    assert (found.top_same, found.top_different) == (same, different)
    assert found.top_agreement == (same / (same + different) if same + different else None)


def test_drift_is_about_how_scores_are_distributed() -> None:
    """The same scores in another order have not drifted, though all differ; higher ones have."""
    random = np.random.default_rng(7)
    scores = random.uniform(0.0, 0.5, 1000).astype(np.float32)
    shuffled = counted(({"y": scores}, {"y": random.permutation(scores)})).outputs["sig", "y"]
    risen = counted(({"y": scores}, {"y": scores + 0.3})).outputs["sig", "y"]
    assert shuffled.drift is not None
    assert shuffled.different_share == 1.0
    assert shuffled.drift < 1e-9
    assert risen.drift is not None
    assert risen.drift > 0.25


VALUES = st.one_of(
    arrays.arrays(np.float32, st.sampled_from([(), (0,), (3,), (2, 3), (2, 1, 2)])),
    arrays.arrays(np.int64, st.sampled_from([(2,), (2, 2)])),
    arrays.arrays(np.bool_, (2,)),
    st.just(np.array([b"a", b"b"], object)),
)


@given(st.lists(st.tuples(VALUES, VALUES, VALUES), max_size=6))
def test_together_is_as_one_by_one(answers: list[tuple[Any, Any, Any]]) -> None:
    """Comparing many at once says of each what comparing it alone says, and counts as much; and what is compared with
    itself is the same. No count or sum is less than nothing."""
    pairs = [({"y": real, "z": more}, {"y": copy, "z": more}) for real, copy, more in answers]
    alone = [compare_outputs([pair], {}) for pair in pairs]
    together = compare_outputs(pairs, {})
    assert together.agreements == [each.agreements[0] for each in alone]
    for key, count in together.counts.items():
        assert count == sum(each.counts.get(key, 0) for each in alone)
    for key, cell in together.cells.items():
        columns = zip(*(each.cells[key][:-1] for each in alone if key in each.cells), strict=True)
        assert cell[:-1] == [sum(column) for column in columns]
        assert min(cell) >= 0.0
    assert compare_outputs([(real, real) for real, _ in pairs], {}).agreements == ["same"] * len(pairs)
