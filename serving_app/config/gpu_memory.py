"""How much of a GPU's memory TensorFlow may take in one replica.

Left alone, TensorFlow takes nearly all memory of every GPU that it sees at its first use. That is right for a replica
that has its GPU to itself, and starves the neighbours of one that has not.
"""

from __future__ import annotations

from dataclasses import dataclass

from serving_app.config.model import SessionConfig

POOLED_PART = 0.9
"""The part of a replica's share that goes to TensorFlow's memory pool.

The CUDA context, cuBLAS and cuDNN of each process live outside the pool, in the same GPU. Without room left for them
the replica that comes up last on a full GPU fails.
"""


@dataclass(frozen=True, slots=True)
class GpuMemory:
    """The two fields of TensorFlow's GPUOptions; None leaves one to the session's base, which by itself takes all."""

    fraction: float | None
    allow_growth: bool | None


def gpu_memory(num_gpus: float, session: SessionConfig) -> GpuMemory:
    """What a replica that reserves `num_gpus` tells TensorFlow; the session's own settings go first."""
    share = num_gpus * POOLED_PART if 0 < num_gpus < 1 else None
    return GpuMemory(
        fraction=share if session.gpu_memory_fraction is None else session.gpu_memory_fraction,
        # Who reserved nothing, and yet sees a GPU, must not take it away from those who did.
        allow_growth=(num_gpus == 0 or None) if session.gpu_allow_growth is None else session.gpu_allow_growth,
    )
