"""Clients of any TensorFlow-Serving-compatible server, by REST or gRPC; without TensorFlow and without Ray.

    from serving_app.remote import RestClient

    with RestClient("http://localhost:8501") as client:
        client.model("half_plus_two", label="stable").predict(x=[1.0, 2.0, 5.0])

All of what is said about calls is written once, as *plans*: generators that say what is to be sent and how long to
wait, and are told what came (plans.py). What differs is small: two ways to write requests and read answers (queries of
REST and of gRPC), and four that carry them (REST and gRPC, each blocking and for asyncio).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from serving_app.remote.grpc_clients import AsyncGrpcClient, GrpcClient
    from serving_app.remote.models import AsyncModel, Model
    from serving_app.remote.rest_clients import AsyncRestClient, RestClient
    from serving_app.remote.retries import Retries
    from serving_app.remote.tls import Tls

__all__ = ["AsyncGrpcClient", "AsyncModel", "AsyncRestClient", "GrpcClient", "Model", "RestClient", "Retries", "Tls"]

_HOMES = {
    "AsyncGrpcClient": "grpc_clients",
    "AsyncModel": "models",
    "AsyncRestClient": "rest_clients",
    "GrpcClient": "grpc_clients",
    "Model": "models",
    "RestClient": "rest_clients",
    "Retries": "retries",
    "Tls": "tls",
}


def __getattr__(name: str) -> Any:
    """Import gRPC only for those who ask for a client that needs it."""
    if name in _HOMES:
        import importlib

        try:
            return getattr(importlib.import_module(f"serving_app.remote.{_HOMES[name]}"), name)
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] not in ("grpc", "httptools"):
                raise
            raise ModuleNotFoundError(
                f"{error.name} is not installed, which {name} needs: pip install 'serving-app[client]'", name=error.name
            ) from error
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
