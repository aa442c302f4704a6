"""What is refused of a gateway's settings."""

from __future__ import annotations

from typing import Any

import pytest

from serving_app.config import ConfigError, parse


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"grpc_socket_path": "run/s"}, "'run/s' does not begin with /"),
        ({"grpc_socket_path": "/" + "s" * 100}, "has 101 bytes, and the path of a socket at most 100"),
        ({"grpc_socket_path": "/run/"}, "is no path of a file"),
        ({"ssl_config_file": "keys"}, "'keys' is neither an absolute path nor a URI"),
        ({"control_token_file": "tokens"}, "'tokens' is neither an absolute path nor a URI"),
        ({"grpc_channel_arguments": {"": 1}}, "'' is no name of a channel argument"),
        ({"grpc_channel_arguments": {"grpc.a b": 1}}, "'grpc.a b' is no name of a channel argument"),
        ({"grpc_channel_arguments": {"grpc.a=1": 1}}, "'grpc.a=1' is no name of a channel argument"),
        ({"grpc_channel_arguments": {"grpc.a": 2**31}}, "grpc.a: 2147483648 is out of range"),
        ({"grpc_channel_arguments": {"grpc.a": "b\0"}}, "holds a zero byte"),
        ({"grpc_channel_arguments": {"grpc.a": 1.5}}, "grpc_channel_arguments"),
        ({"grpc_channel_arguments": {"grpc.a": [1]}}, "grpc_channel_arguments"),
    ],
)
def test_what_is_wrong_is_said(settings: dict[str, Any], message: str) -> None:
    """A setting that gRPC could not use is refused before anything is deployed, by a sentence about it."""
    with pytest.raises(ConfigError) as caught:
        parse({"gateway": settings})
    assert message in str(caught.value)


def test_channel_arguments_keep_their_type() -> None:
    """Numbers stay numbers and texts stay texts, also those that look like numbers."""
    arguments = {"grpc.keepalive_time_ms": 1000, "grpc.primary_user_agent": "x", "grpc.text": "7"}
    assert parse({"gateway": {"grpc_channel_arguments": arguments}}).gateway.grpc_channel_arguments == arguments
