"""Reads the files with secrets that the configuration names, where the gateway runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from serving_app.config import ServingConfig
from serving_app.config.secrets import redact_text
from serving_app.config.stores import store_options
from serving_app.core.errors import FailedPrecondition, ServingError
from serving_app.serve.config_file import read_text

T = TypeVar("T")


def read_secret(config: ServingConfig, setting: str, parse: Callable[[str, str], T]) -> T | None:
    """What `parse` makes of the text and the name of the file in this setting of the gateway; None if none is set.

    Blocks. Raises FailedPrecondition, which names the setting, the file and what is wrong with it, and shows nothing of
    its text, as `parse` must not either.
    """
    file: str | None = getattr(config.gateway, setting)
    if file is None:
        return None
    try:
        return parse(read_text(file, store_options(config, file)), file)
    except ServingError as error:
        raise FailedPrecondition(redact_text(f"gateway.{setting}: {error}")) from None
