"""The ModelSpec of a request message as the core's ModelSpec, and what a response says in return."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import DecodeError

from serving_app.core.errors import InvalidArgument
from serving_app.core.servable import ModelSpec


def parse(message_class: Any, encoded: bytes) -> Any:
    """The message in these bytes; InvalidArgument if there is none."""
    try:
        return message_class.FromString(encoded)
    except DecodeError as error:
        raise InvalidArgument(f"The request is no {message_class.DESCRIPTOR.full_name}: {error}") from error


def decode_spec(request: Any) -> ModelSpec:
    """Which servable a request is for; InvalidArgument if it does not say."""
    if not request.HasField("model_spec"):
        raise InvalidArgument("Missing ModelSpec")
    return read_spec(request.model_spec)


def read_spec(spec: Any) -> ModelSpec:
    """A ModelSpec message as the core has it. A version that is set counts, even if 0."""
    choice = spec.WhichOneof("version_choice")
    if choice == "version":
        return ModelSpec(spec.name, version=spec.version.value)
    if choice == "version_label":
        return ModelSpec(spec.name, label=spec.version_label)
    return ModelSpec(spec.name)


def encode_spec(spec: Any, name: str, version: int, signature_name: str = "") -> None:
    """Fills in what answered. The label is not echoed; the version is always set, even if 0."""
    spec.name = name
    spec.version.SetInParent()
    spec.version.value = version
    spec.signature_name = signature_name
