"""What is set about the gRPC server: our own settings, and the channel arguments of grpc's C++ core that mean something
here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from serving_app.protocol.http2_frames import DEFAULT_FRAME, DEFAULT_WINDOW, LARGEST_FRAME, LARGEST_WINDOW
from serving_app.protocol.http2_streams import Limits

logger = logging.getLogger("ray.serve")

_FOREVER = 2**31 - 1
"""What stands for no limit of time, or of number, in channel arguments."""


@dataclass(frozen=True, slots=True)
class GrpcSettings:
    """A gRPC server's. Sizes below 0 and times of None are no limit."""

    max_receive_bytes: int = 4 << 20
    max_send_bytes: int = -1
    limits: Limits = field(default_factory=Limits)
    max_age_s: float | None = None
    max_age_grace_s: float | None = None
    max_idle_s: float | None = None
    keepalive_s: float | None = 7200.0
    keepalive_timeout_s: float = 20.0
    keepalive_when_idle: bool = True


def grpc_settings(max_message: int, arguments: Mapping[str, int | str] | None = None) -> GrpcSettings:
    """The settings where messages of so many bytes are taken, and users have added these channel arguments. Those that
    have no effect here are named in the log.
    """
    settings = GrpcSettings(max_receive_bytes=max_message)
    unknown = []
    for name, value in (arguments or {}).items():
        change = ARGUMENTS.get(name)
        if change is None or isinstance(value, str):
            unknown.append(name)
        else:
            settings = change(settings, value)
    if unknown:
        logger.warning(
            "gateway.grpc_channel_arguments: %s without effect; these have one, with numbers: %s",
            ", ".join(unknown) + (" is" if len(unknown) == 1 else " are"), ", ".join(sorted(ARGUMENTS)),
        )
    return settings


_Change = Callable[[GrpcSettings, int], GrpcSettings]


def _seconds(name: str) -> _Change:
    def change(settings: GrpcSettings, value: int) -> GrpcSettings:
        seconds: Any = None if value >= _FOREVER or value < 0 else max(value, 1) / 1000
        return replace(settings, **{name: seconds})

    return change


def _limit(name: str, least: int, most: int) -> _Change:
    def change(settings: GrpcSettings, value: int) -> GrpcSettings:
        number: Any = min(max(value, least), most)
        return replace(settings, limits=replace(settings.limits, **{name: number}))

    return change


def _size(name: str) -> _Change:
    def change(settings: GrpcSettings, value: int) -> GrpcSettings:
        size: Any = max(value, -1)
        return replace(settings, **{name: size})

    return change


ARGUMENTS: Mapping[str, _Change] = {
    "grpc.max_receive_message_length": _size("max_receive_bytes"),
    "grpc.max_send_message_length": _size("max_send_bytes"),
    "grpc.max_concurrent_streams": _limit("streams", 1, _FOREVER),
    "grpc.max_metadata_size": _limit("header_bytes", 1, 1 << 24),
    "grpc.absolute_max_metadata_size": _limit("header_bytes", 1, 1 << 24),
    "grpc.http2.max_frame_size": _limit("frame_bytes", DEFAULT_FRAME, LARGEST_FRAME),
    "grpc.http2.lookahead_bytes": _limit("stream_window", DEFAULT_WINDOW, LARGEST_WINDOW),
    "grpc.max_connection_age_ms": _seconds("max_age_s"),
    "grpc.max_connection_age_grace_ms": _seconds("max_age_grace_s"),
    "grpc.max_connection_idle_ms": _seconds("max_idle_s"),
    "grpc.keepalive_time_ms": _seconds("keepalive_s"),
    "grpc.keepalive_timeout_ms": lambda settings, value: replace(settings, keepalive_timeout_s=max(value, 1) / 1000),
    "grpc.keepalive_permit_without_calls": lambda settings, value: replace(settings, keepalive_when_idle=bool(value)),
}
"""The channel arguments that have an effect, and which. Gateways always share their port, so that one can be replaced
without a gap: grpc.so_reuseport is not among them."""
