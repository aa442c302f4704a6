"""gRPC HandleReloadConfigRequest: request bytes to what is asked, and the answer that it worked."""

from __future__ import annotations

from collections.abc import Mapping
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


def encode_reload(growth: Mapping[str, int]) -> bytes:
    """A ReloadConfigResponse that says that all is well, and by how much each of these metrics has grown meanwhile.

    A failure is the status of the call and never gets here.
    """
    response = messages.ReloadConfigResponse()
    response.status.SetInParent()
    for name, increase in growth.items():
        response.metric.add(name=name, int64_value_increase=increase)
    encoded: bytes = response.SerializeToString()
    return encoded
