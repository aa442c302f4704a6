"""How requests are joined into batches: TensorFlow Serving's BatchingParameters, per model."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

from pydantic import Field, model_validator

from serving_app.config.settings import Settings


class BatchingConfig(Settings):
    """Batching of one model; names and defaults are TensorFlow Serving's."""

    max_batch_size: int = Field(
        default=1000, ge=1, description="Rows that a request may have, and a batch too unless requests are split."
    )
    batch_timeout_micros: int = Field(
        default=0,
        ge=0,
        description="Microseconds that the first request of a batch waits for others; 0 waits for nothing.",
    )
    max_enqueued_batches: int = Field(
        default=10,
        ge=1,
        description="Batches that may wait in each queue; beyond that a request is refused as UNAVAILABLE.",
    )
    num_batch_threads: int | None = Field(
        default=None, ge=1, description="Batches that a replica runs at once; null means one per core of its machine."
    )
    allowed_batch_sizes: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        default=(), description="Sizes to which batches are padded, ascending; empty pads nothing."
    )
    pad_variable_length_inputs: bool = Field(
        default=False, description="Whether inputs that differ beyond the first dimension are padded alike."
    )
    enable_large_batch_splitting: bool = Field(
        default=False, description="Whether a request that does not fit into the open batch is cut into pieces."
    )
    max_execution_batch_size: int | None = Field(
        default=None,
        ge=1,
        description="Rows that a batch has at most when requests are split; null means `max_batch_size`.",
    )

    @model_validator(mode="after")
    def _check_sizes(self) -> BatchingConfig:
        sizes = self.allowed_batch_sizes
        if any(after <= before for before, after in pairwise(sizes)):
            raise ValueError(f"allowed_batch_sizes entries must be monotonically increasing; got {list(sizes)}")
        if sizes and sizes[-1] != self.max_batch_size:
            raise ValueError(
                f"Last entry in allowed_batch_sizes must match max_batch_size; last entry was {sizes[-1]}; expected "
                f"{self.max_batch_size}"
            )
        if self.enable_large_batch_splitting and (self.max_execution_batch_size or 0) > self.max_batch_size:
            raise ValueError(
                f"max_execution_batch_size ({self.max_execution_batch_size}) is above max_batch_size "
                f"({self.max_batch_size}); lower it or raise max_batch_size"
            )
        return self
