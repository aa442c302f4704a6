"""What fsspec is to be told about a store."""

from __future__ import annotations

from typing import Any

from serving_app.config.locations import kind_of, scheme_of
from serving_app.config.model import ModelConfig
from serving_app.config.serving import ServingConfig


def store_options(config: ServingConfig, uri: str, model: ModelConfig | None = None) -> dict[str, Any]:
    """The options for the store of `uri`: those of `stores` for its scheme, then the model's own, which go before.

    `s3` and `s3a`, `gs` and `gcs` are one kind of store each. An option is replaced as a whole, also where it is a
    mapping.
    """
    kind = scheme_of(uri)
    options: dict[str, Any] = {}
    for scheme, given in config.stores.items():
        if kind_of(scheme) == kind:
            options.update(given)
    return options if model is None else {**options, **model.storage_options}
