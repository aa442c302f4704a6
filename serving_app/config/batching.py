"""How requests are joined into batches, per model; names and defaults are TensorFlow Serving's."""

from __future__ import annotations

from pydantic import Field

from serving_app.config.settings import Settings


class BatchingConfig(Settings):
    """Batching of one model."""

    max_batch_size: int = Field(default=1000, ge=1, description="Rows that a batch may have at most.")
    batch_timeout_micros: int = Field(
        default=0,
        ge=0,
        description="Microseconds that the first request of a batch waits for others; 0 waits for nothing.",
    )
