"""How requests are joined into batches, per model; names and defaults are TensorFlow Serving's."""

from __future__ import annotations

from typing import Any

from pydantic import Field, ValidationInfo, field_validator, model_validator

from serving_app.config.settings import Settings
from serving_app.core.batching import DEFAULT_THREAD_POOL_NAME, Batching, find_wrong
from serving_app.core.errors import InvalidArgument


class BatchingConfig(Settings):
    """Batching of one model: requests of one signature that ask for the same outputs are joined and run as one. Sizes
    are rows, the first dimension of a request's tensors. Each replica has its own queues and threads. What is changed
    here holds at once, also for versions that are loaded; null turns batching off.
    """

    max_batch_size: int = Field(
        default=1000, description="Rows that a request may have at most, and a batch unless large ones are split."
    )
    batch_timeout_micros: int = Field(
        default=0,
        description="Microseconds that the first request of a batch waits for others while a thread is free; with 0 a "
        "batch is run as soon as a thread is free.",
    )
    max_enqueued_batches: int = Field(
        default=10,
        description="Batches that may wait for a thread, for each signature and set of outputs; what exceeds them is "
        "refused with UNAVAILABLE.",
    )
    num_batch_threads: int | None = Field(
        default=None,
        description="Batches that one replica runs at a time; null means one for each CPU that it may use."
    )
    thread_pool_name: str = Field(
        default=DEFAULT_THREAD_POOL_NAME, min_length=1, description="The name of the threads that run batches."
    )
    allowed_batch_sizes: tuple[int, ...] = Field(
        default=(),
        description="The only sizes that a run may have, ascending, the last one `max_batch_size`: smaller batches are "
        "filled up with copies of a row, whose outputs are dropped. Empty allows every size.",
    )
    pad_variable_length_inputs: bool = Field(
        default=False,
        description="Whether requests that differ in dimensions after the first are joined, the smaller ones filled up "
        "at the end with copies of their first element. Outputs keep the size that this gives them.",
    )
    enable_large_batch_splitting: bool = Field(
        default=False, description="Whether a request may be cut, and its rows run in several batches."
    )
    max_execution_batch_size: int | None = Field(
        default=None, description="Rows that a batch may have where large ones are split; null means `max_batch_size`."
    )
    enable_per_model_batching_parameters: bool = Field(
        default=False,
        description="Whether the file `batching_params.pbtxt` in a version's directory takes the place of these "
        "settings, but for `num_batch_threads` and `thread_pool_name`. Versions without it are then not batched.",
    )

    def limits(self) -> Batching:
        """These settings as replicas take them."""
        own = self.model_dump(exclude={"enable_per_model_batching_parameters"})
        return Batching(**own)

    @field_validator("*")
    @classmethod
    def _check_field(cls, value: Any, info: ValidationInfo) -> Any:
        if complaint := find_wrong(str(info.field_name), value):
            raise ValueError(complaint)
        return value

    @model_validator(mode="after")
    def _check_together(self) -> BatchingConfig:
        try:
            self.limits()
        except InvalidArgument as error:
            raise ValueError(error.message) from error
        return self
