"""What a Host is told to hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from serving_app.core.batching import Batching
from serving_app.core.servable import ServableId
from serving_app.host.warmup import Warmup
from serving_app.runtime.loader import LoadOptions


@dataclass(frozen=True, slots=True)
class Assignment:
    """One version, where its files are, and how to load and run it.

    `batching_from_version` means that a file beside the version says how it is batched, or by not being there that it
    is not; of `batching` only the threads count then.
    """

    servable: ServableId
    path: str
    platform: str = "tensorflow"
    load: LoadOptions = field(default_factory=LoadOptions)
    batching: Batching | None = None
    batching_from_version: bool = False
    warmup: Warmup = field(default_factory=Warmup)
    storage_options: Mapping[str, Any] = field(default_factory=dict)
    cache_dir: str | None = None
    cache_max_bytes: int | None = None
