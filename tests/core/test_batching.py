"""Which limits of batching contradict themselves."""

from __future__ import annotations

from typing import Any

import pytest

from serving_app.core.batching import Batching
from serving_app.core.errors import InvalidArgument


@pytest.mark.parametrize(
    ("limits", "complaint"),
    [
        ({"max_batch_size": 0}, "input_batch_size_limit must be positive; was 0: raise max_batch_size"),
        ({"batch_timeout_micros": -1}, "batch_timeout_micros must be non-negative; was -1"),
        ({"max_enqueued_batches": -1}, "max_enqueued_batches must be positive; was -1"),
        ({"max_enqueued_batches": 0, "enable_large_batch_splitting": True}, "must be positive; was 0"),
        ({"num_batch_threads": 0}, "num_batch_threads must be positive; was 0"),
        ({"max_execution_batch_size": 0}, "max_execution_batch_size must be positive; was 0"),
        (
            {"max_batch_size": 8, "allowed_batch_sizes": (2, 4)},
            "Last entry in allowed_batch_sizes must match max_batch_size; last entry was 4; expected 8",
        ),
        (
            {
                "max_batch_size": 8,
                "max_execution_batch_size": 4,
                "allowed_batch_sizes": (2, 4),
                "enable_large_batch_splitting": True,
            },
            "last entry was 4; expected 8",
        ),
        ({"max_batch_size": 8, "allowed_batch_sizes": (4, 2, 8)}, "must be monotonically increasing from 1 on; got"),
        ({"max_batch_size": 8, "allowed_batch_sizes": (8, 8)}, "must be monotonically increasing"),
        ({"max_batch_size": 8, "allowed_batch_sizes": (0, 8)}, "must be monotonically increasing"),
        (
            {"max_batch_size": 8, "max_execution_batch_size": 9, "enable_large_batch_splitting": True},
            "When enable_large_batch_splitting is true, input_batch_size_limit must be greater than or equal to "
            r"max_execution_batch_size. Lower max_execution_batch_size \(9\) to max_batch_size \(8\) or below",
        ),
    ],
)
def test_limits_that_cannot_be_obeyed_are_refused(limits: dict[str, Any], complaint: str) -> None:
    """Each limit has a least value, and those that belong together must fit, in TensorFlow Serving's words."""
    with pytest.raises(InvalidArgument, match=complaint):
        Batching(**limits)


@pytest.mark.parametrize(
    ("limits", "rows"),
    [
        ({}, 1000),
        ({"max_batch_size": 8, "allowed_batch_sizes": (2, 4, 8), "max_enqueued_batches": 0}, 8),
        ({"max_batch_size": 8, "max_execution_batch_size": 4}, 8),
        ({"max_batch_size": 8, "max_execution_batch_size": 9}, 8),
        ({"max_batch_size": 8, "max_execution_batch_size": 4, "enable_large_batch_splitting": True}, 4),
        ({"max_batch_size": 8, "enable_large_batch_splitting": True}, 8),
    ],
)
def test_runs_are_smaller_than_requests_only_where_those_are_split(limits: dict[str, Any], rows: int) -> None:
    """The size of a run is that of a batch, unless large requests are split and it is given by itself."""
    assert Batching(**limits).run_rows == rows


def test_limits_are_told_in_one_line() -> None:
    """How large batches are, and whatever differs from TensorFlow Serving's defaults."""
    assert str(Batching()) == "max_batch_size 1000"
    limits = Batching(max_batch_size=4, allowed_batch_sizes=(2, 4), batch_timeout_micros=5)
    assert str(limits) == "max_batch_size 4, batch_timeout_micros 5, allowed_batch_sizes (2, 4)"
