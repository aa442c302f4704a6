"""What can be said about the gateway: the processes that clients talk to."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field, model_validator

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
    request_timeout_s: float | None = Field(
        default=30.0,
        gt=0,
        description="Seconds for a REST request, and for a gRPC one without a deadline; null sets no limit.",
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

    @model_validator(mode="after")
    def _check_ports(self) -> GatewayConfig:
        if self.rest_port and self.rest_port == self.grpc_port:
            raise ValueError(f"rest_port and grpc_port are both {self.rest_port}; give them different ports")
        return self
