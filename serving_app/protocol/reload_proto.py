"""gRPC HandleReloadConfigRequest: request bytes to what is asked, and the answer that it worked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from serving_app.protocol import messages
from serving_app.protocol.model_spec_proto import parse


class ReloadQuery(NamedTuple):
    """The serialized ModelServerConfig to be put in force, and the metrics whose growth the caller wants to know."""

    config: bytes
    metric_names: tuple[str, ...]


def decode_reload(encoded: bytes) -> ReloadQuery:
    """What a ReloadConfigRequest asks for; InvalidArgument if the bytes are none."""
    request = parse(messages.ReloadConfigRequest, encoded)
    return ReloadQuery(request.config.SerializeToString(), tuple(dict.fromkeys(request.metric_names)))


def encode_reload(metric_names: Sequence[str]) -> bytes:
    """A ReloadConfigResponse that says that all is well.

    A failure is the status of the call and never gets here. No metric that can be asked for by name is counted
    by this server; TensorFlow Serving reports of a metric that it does not know that it grew by nothing.
    """
    response = messages.ReloadConfigResponse()
    response.status.SetInParent()
    for name in metric_names:
        response.metric.add(name=name, int64_value_increase=0)
    encoded: bytes = response.SerializeToString()
    return encoded
