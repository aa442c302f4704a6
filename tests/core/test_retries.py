"""The waits before retries."""

from __future__ import annotations

import pytest

from serving_app.core.retries import find_delay


@pytest.mark.parametrize(
    ("base_s", "max_s", "quick_retries", "slow_s", "delays"),
    [
        pytest.param(1.0, 60.0, 5, 300.0, [1.0, 2.0, 4.0, 8.0, 16.0, 300.0, 300.0], id="the default"),
        pytest.param(1.0, 3.0, 4, 10.0, [1.0, 2.0, 3.0, 3.0, 10.0], id="capped"),
        pytest.param(1.0, 60.0, 0, 7.0, [7.0, 7.0], id="only slow"),
        pytest.param(4.0, 4.0, 2, 1.0, [4.0, 4.0, 1.0], id="slow may be faster"),
    ],
)
def test_waits(base_s: float, max_s: float, quick_retries: int, slow_s: float, delays: list[float]) -> None:
    """Each quick retry waits twice as long as the one before, up to the maximum; all others wait the slow time."""
    found = [
        find_delay(before, base_s=base_s, max_s=max_s, quick_retries=quick_retries, slow_s=slow_s)
        for before in range(len(delays))
    ]
    assert found == delays


def test_very_many_quick_retries() -> None:
    """No number of retries is too large."""
    assert find_delay(10**6, base_s=1.0, max_s=60.0, quick_retries=10**7, slow_s=300.0) == 60.0
