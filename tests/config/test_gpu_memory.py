"""A replica's part of a GPU's memory."""

from __future__ import annotations

import pytest

from serving_app.config import GpuMemory, SessionConfig, gpu_memory


@pytest.mark.parametrize(
    ("num_gpus", "session", "expected"),
    [
        (0, {}, GpuMemory(None, True)),
        (0.5, {}, GpuMemory(0.45, None)),
        (0.25, {}, GpuMemory(0.225, None)),
        (1, {}, GpuMemory(None, None)),
        (2, {}, GpuMemory(None, None)),
        (0.5, {"gpu_memory_fraction": 0.2}, GpuMemory(0.2, None)),
        (0.5, {"gpu_allow_growth": True}, GpuMemory(0.45, True)),
        (1, {"gpu_memory_fraction": 0.7, "gpu_allow_growth": True}, GpuMemory(0.7, True)),
        (0, {"gpu_allow_growth": False}, GpuMemory(None, False)),
    ],
)
def test_gpu_memory(num_gpus: float, session: dict, expected: GpuMemory) -> None:
    """A share below one GPU limits the memory to that share less a tenth, unless the session says otherwise."""
    assert gpu_memory(num_gpus, SessionConfig(**session)) == expected
