"""TensorFlow Serving as a distributed application on Ray Serve.

    from serving_app import connect
    connect().model("half_plus_two").predict(x=[1.0, 2.0, 5.0])
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from serving_app.client.connection import connect
    from serving_app.client.warmup_file import write_warmup
    from serving_app.publishing import publish
    from serving_app.serve.builder import app

__all__ = ["app", "connect", "publish", "write_warmup"]

_HOMES = {
    "app": "serving_app.serve.builder",
    "connect": "serving_app.client.connection",
    "publish": "serving_app.publishing",
    "write_warmup": "serving_app.client.warmup_file",
}


def __getattr__(name: str) -> Any:
    """Import Ray only for those who ask for something that needs it."""
    if name in _HOMES:
        import importlib

        try:
            return getattr(importlib.import_module(_HOMES[name]), name)
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] in ("", "serving_app"):
                raise
            raise ModuleNotFoundError(
                f"{error.name} is not installed, which serving_app.{name} needs: pip install 'serving-app[serve]'",
                name=error.name,
            ) from error
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
