"""What can be said about the gateway: the processes that clients talk to."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from serving_app.config.locations import Location
from serving_app.config.settings import Form, Settings
from serving_app.config.sizes import Bytes


def _parse_port(value: object) -> object:
    """The port that is meant; None for one that is off. (`off` and `no` in YAML are the value False.)"""
    if value is False or (isinstance(value, str) and value.strip().lower() in {"off", "null", "none", "false"}):
        return None
    if value is True:
        raise ValueError("a port is a number, 0 for any free one, or null for none; got true")
    return value


Port = Annotated[
    Annotated[int, Field(ge=0, le=65535)] | None,
    BeforeValidator(_parse_port),
    Form("port number, 0 for a free one, null for none"),
]


_LONGEST_SOCKET_PATH = 100
"""The system takes 107 bytes; gateways that share a path add seven to have one of their own."""

_ARGUMENT = re.compile(r"[!-<>-~]+")


class GatewayConfig(Settings):
    """The gateway's own REST and gRPC listeners, and the replicas that hold them."""

    replicas: int = Field(default=1, ge=1, description="Gateway processes; those on one node share its ports.")
    host: str = Field(
        default="127.0.0.1",
        min_length=1,
        description="The address to listen on; the default is reached from this machine only, 0.0.0.0 from anywhere.",
    )
    rest_port: Port = Field(default=8501, description="The port for REST.")
    grpc_port: Port = Field(default=8500, description="The port for gRPC.")
    grpc_socket_path: str | None = Field(
        default=None,
        description="A UNIX socket, as an absolute path, at which gRPC is served as well; the gateways of a node share "
        "it.",
    )
    ssl_config_file: Location | None = Field(
        default=None,
        description="A file, as an absolute path or URI, with TensorFlow Serving's SSLConfig in text form; gRPC is "
        "then served over TLS only, also at the UNIX socket. REST has none, as there. Read when a gateway starts.",
    )
    control_token_file: Location | None = Field(
        default=None,
        description="A file, as an absolute path or URI, with a token in each line. Who shows one may change labels, "
        "traffic and rollouts by HTTP, below /control of the REST port (see [control](control.md)); null offers no "
        "such endpoints. Read when a gateway starts.",
    )
    grpc_channel_arguments: Mapping[str, int | str] = Field(
        default={},
        description="Arguments for the gRPC server, such as {grpc.max_concurrent_streams: 100}; those that have no "
        "effect are named in the log.",
    )
    grpc_health: bool = Field(default=True, description="Whether gRPC's health service answers.")
    tensor_content: bool = Field(
        default=False,
        description="Whether gRPC answers carry tensors as bytes (`tensor_content`) instead of lists of values.",
    )
    check_method_names: bool = Field(
        default=False,
        description="Whether a signature answers only the calls that its method_name is made for, as TensorFlow "
        "Serving did before 2.15.",
    )
    rest_cors: bool = Field(default=False, description="Whether REST answers let web pages of any origin read them.")
    json_text: Literal["exact", "compact"] = Field(
        default="exact",
        description="How REST writes JSON: exactly as TensorFlow Serving does, or with the fewest digits and no "
        "blanks, which is quicker; both read back to the same values.",
    )
    metrics_path: str | None = Field(
        default="/monitoring/prometheus/metrics",
        description="Where the REST port shows the metrics of the whole application to Prometheus; null shows none.",
    )
    open_when_loaded: bool = Field(
        default=False,
        description="Whether the ports open only when each configured model has a version that is ready, or one that "
        "failed, as TensorFlow Serving's do.",
    )
    request_timeout_s: float | None = Field(
        default=30.0, gt=0, description="Seconds for a REST request; null sets no limit."
    )
    grpc_timeout_s: float | None = Field(
        default=30.0, gt=0, description="Seconds for a gRPC request whose client sets no deadline; null sets no limit."
    )
    drain_timeout_s: float = Field(
        default=30.0,
        ge=0,
        description="Seconds in which a gateway that is replaced or scaled down finishes its requests.",
    )
    max_request_bytes: Bytes = Field(
        default=2**31 - 1,
        le=2**31 - 1,
        description="The largest request body accepted; no more than protobuf can carry.",
    )
    num_cpus: float = Field(
        default=0.1,
        ge=0,
        description="CPUs that each gateway reserves; small by default, and no limit to what it uses.",
    )

    @field_validator("grpc_socket_path", "metrics_path")
    @classmethod
    def _check_absolute(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith("/"):
            raise ValueError(f"{value!r} does not begin with /; write the whole path")
        return value

    @field_validator("grpc_socket_path")
    @classmethod
    def _check_length(cls, value: str | None) -> str | None:
        if value is not None and len(value.encode()) > _LONGEST_SOCKET_PATH:
            raise ValueError(
                f"{value!r} has {len(value.encode())} bytes, and the path of a socket at most {_LONGEST_SOCKET_PATH}; "
                "choose a shorter one"
            )
        if value is not None and (value.endswith("/") or "\0" in value):
            raise ValueError(f"{value!r} is no path of a file; name the socket itself")
        return value

    @field_validator("grpc_channel_arguments")
    @classmethod
    def _check_arguments(cls, value: Mapping[str, int | str]) -> Mapping[str, int | str]:
        for name, argument in value.items():
            if not _ARGUMENT.fullmatch(name):
                raise ValueError(f"{name!r} is no name of a channel argument; write one such as grpc.keepalive_time_ms")
            if isinstance(argument, int) and not -(2**31) <= argument < 2**31:
                raise ValueError(f"{name}: {argument} is out of range; gRPC takes numbers of 32 bits")
            if isinstance(argument, str) and "\0" in argument:
                raise ValueError(f"{name}: {argument!r} holds a zero byte, which gRPC cannot take")
        return value

    @model_validator(mode="after")
    def _check_ports(self) -> GatewayConfig:
        if self.rest_port and self.rest_port == self.grpc_port:
            raise ValueError(f"rest_port and grpc_port are both {self.rest_port}; give them different ports")
        return self
