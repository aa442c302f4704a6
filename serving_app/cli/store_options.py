"""Flags that say what fsspec needs to reach a store, as JSON: an object, as fsspec takes it."""

from __future__ import annotations

import argparse
import json
from typing import Any

from serving_app.core.errors import InvalidArgument


def add_store_options(parser: argparse.ArgumentParser, flag: str, what: str) -> None:
    """A flag for the options of one store, with the words for what lies there."""
    parser.add_argument(flag, metavar="JSON", default="{}", help=f"what fsspec needs to reach {what}: an object")


def read_store_options(flag: str, text: str) -> dict[str, Any]:
    """The options that a flag was given. Raises InvalidArgument for what is no object."""
    try:
        options = json.loads(text)
    except ValueError as error:
        raise InvalidArgument(f"{flag}: {text!r} is no JSON: {error}") from error
    if not isinstance(options, dict):
        raise InvalidArgument(f"{flag}: {text!r} is no object; write {{\"key\": value}}")
    return options
