"""The limits of joining requests, checked in one place for every way in which they can be written.

Names, defaults and complaints are TensorFlow Serving's (session_bundle_config.proto, BatchingParameters). Its
scheduler calls `max_batch_size` the input_batch_size_limit, and so do its complaints; ours name both.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from itertools import pairwise
from typing import NamedTuple

from serving_app.core.errors import InvalidArgument

DEFAULT_THREAD_POOL_NAME = "batch_threads"


@dataclass(frozen=True, slots=True)
class Batching:
    """How the requests of one version are joined. Raises InvalidArgument where the numbers cannot be obeyed.

    Sizes are rows: the first dimension of a request's tensors. `num_batch_threads` None means one per CPU,
    `max_execution_batch_size` None the same as `max_batch_size`.
    """

    max_batch_size: int = 1000
    batch_timeout_micros: int = 0
    max_enqueued_batches: int = 10
    num_batch_threads: int | None = None
    thread_pool_name: str = DEFAULT_THREAD_POOL_NAME
    allowed_batch_sizes: tuple[int, ...] = ()
    pad_variable_length_inputs: bool = False
    enable_large_batch_splitting: bool = False
    max_execution_batch_size: int | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            if complaint := find_wrong(field.name, getattr(self, field.name)):
                raise InvalidArgument(complaint)
        if complaint := self._find_contradiction():
            raise InvalidArgument(complaint)

    def __str__(self) -> str:
        """What differs from the defaults, and how large batches are."""
        shown = {field.name: getattr(self, field.name) for field in fields(self)}
        told = [
            f"{field.name} {shown[field.name]}" for field in fields(self)
            if field.name == "max_batch_size" or shown[field.name] != field.default
        ]
        return ", ".join(told)

    @property
    def run_rows(self) -> int:
        """The most rows that one run has, before padding."""
        if self.enable_large_batch_splitting and self.max_execution_batch_size is not None:
            return self.max_execution_batch_size
        return self.max_batch_size

    def _find_contradiction(self) -> str | None:
        sizes = self.allowed_batch_sizes
        if sizes and sizes[-1] != self.max_batch_size:
            return (
                "Last entry in allowed_batch_sizes must match max_batch_size; "
                f"last entry was {sizes[-1]}; expected {self.max_batch_size}"
            )
        if self.enable_large_batch_splitting and self.run_rows > self.max_batch_size:
            return (
                "When enable_large_batch_splitting is true, input_batch_size_limit must be greater than or equal to "
                f"max_execution_batch_size. Lower max_execution_batch_size ({self.run_rows}) to max_batch_size "
                f"({self.max_batch_size}) or below"
            )
        if self.enable_large_batch_splitting and self.max_enqueued_batches == 0:
            return _MUST_BE_POSITIVE.format(name="max_enqueued_batches", value=0)
        return None


class BatchingChoice(NamedTuple):
    """How a model's versions are to be batched. `from_version` means that a file beside each version says so, or by not
    being there that it is not batched; of `limits` only the threads count then."""

    limits: Batching | None = None
    from_version: bool = False


_MUST_BE_POSITIVE = "{name} must be positive; was {value}"

_LEAST = {
    "max_batch_size": (1, "input_batch_size_limit must be positive; was {value}: raise max_batch_size"),
    "batch_timeout_micros": (0, "{name} must be non-negative; was {value}"),
    # Without splitting 0 means 1, since there is always an open batch.
    "max_enqueued_batches": (0, _MUST_BE_POSITIVE),
    "num_batch_threads": (1, _MUST_BE_POSITIVE),
    "max_execution_batch_size": (1, _MUST_BE_POSITIVE),
}
"""The least value of a number, and what is said of one below."""


def find_wrong(name: str, value: object) -> str | None:
    """What is wrong with the value of one field taken by itself; None if nothing is."""
    if isinstance(value, int) and name in _LEAST and value < _LEAST[name][0]:
        return _LEAST[name][1].format(name=name, value=value)
    if name == "allowed_batch_sizes" and isinstance(value, tuple) and not _is_increasing(value):
        return f"allowed_batch_sizes entries must be monotonically increasing from 1 on; got {list(value)}"
    return None


def _is_increasing(sizes: tuple[int, ...]) -> bool:
    return all(earlier < later for earlier, later in pairwise((0, *sizes)))
