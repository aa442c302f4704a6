"""TensorFlow Serving's BatchingParameters, in text form, as limits of batching."""

from __future__ import annotations

from typing import Any

from google.protobuf import text_format

from serving_app.core.batching import Batching
from serving_app.core.errors import InvalidArgument
from serving_app.protocol.messages import POOL, BatchingParameters

_PLAIN = {"pad_variable_length_inputs": bool, "allowed_batch_sizes": tuple}
"""Fields that are no message of their own, and what they become."""


def batching_fields(parameters: Any) -> dict[str, Any]:
    """The fields of a BatchingParameters that are set, by their names."""
    return {
        field.name: _PLAIN[field.name](value) if field.name in _PLAIN else value.value
        for field, value in parameters.ListFields()
    }


def parse_batching(text: str, source: str) -> Batching:
    """The limits in this text; what it does not name has its default.

    Raises InvalidArgument, which names the source, where the text or the numbers in it are wrong.
    """
    try:
        parameters = text_format.Parse(text, BatchingParameters(), descriptor_pool=POOL)
        return Batching(**batching_fields(parameters))
    except text_format.ParseError as error:
        raise InvalidArgument(f"{source} is no BatchingParameters in text form: {error}") from error
    except InvalidArgument as error:
        raise InvalidArgument(f"{source}: {error.message}") from error
