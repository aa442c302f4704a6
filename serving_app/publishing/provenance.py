"""Where a version comes from, in a file beside it that no server reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from serving_app import __version__
from serving_app.core.errors import InvalidArgument
from serving_app.publishing.claims import publisher_name

FILE = "assets.extra/serving_app.json"
"""Where it lies below a version's directory. That folder is for what is not TensorFlow's own."""


def encode_provenance(name: str | None, number: int, metadata: Mapping[str, Any]) -> bytes:
    """The content of the file: who has published what, when, and what the training job says of it.

    Raises InvalidArgument for metadata that JSON cannot hold; scalars of NumPy and the like become numbers.
    """
    document = {
        "model": name,
        "version": number,
        "published_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "published_by": publisher_name(),
        "serving_app": __version__,
        "metadata": metadata,
    }
    try:
        text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False, default=_as_scalar)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidArgument(
            f"the metadata cannot be written as JSON ({error}); give texts, numbers, lists and mappings of them"
        ) from error
    return (text + "\n").encode()


def _as_scalar(value: object) -> Any:
    if callable(item := getattr(value, "item", None)):
        return item()
    raise TypeError(f"{type(value).__name__} {value!r} is neither text nor number")
