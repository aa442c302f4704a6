"""What Python callers say of a call besides its inputs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from serving_app.core.errors import InvalidArgument
from serving_app.protocol.call_options import names_of, seconds_of


@pytest.mark.parametrize(
    ("timeout", "seconds"),
    [
        (None, None), (0, 0.0), (1.5, 1.5), (np.float32(0.5), 0.5), (np.int64(3), 3.0), (math.inf, None),
        (1e12, None), (2**4000, None),
    ],
)
def test_a_timeout_is_a_number_of_seconds(timeout: Any, seconds: float | None) -> None:
    """Any number of seconds will do; longer than clocks count is as long as it takes."""
    assert seconds_of(timeout) == seconds


@pytest.mark.parametrize("timeout", [-1, -0.5, math.nan, "1", [1.0], 1j])
def test_what_is_no_time_is_refused(timeout: Any) -> None:
    """The error says what a timeout is, and what was given."""
    with pytest.raises(InvalidArgument, match="timeout must be a number of seconds"):
        seconds_of(timeout)


def test_names_are_a_list() -> None:
    """A single text would count as its letters, so it is refused."""
    assert names_of("outputs", ["y", "z"]) == ("y", "z")
    assert names_of("outputs", ()) == ()
    with pytest.raises(InvalidArgument, match=r"outputs=\['yz'\]"):
        names_of("outputs", "yz")
