"""Platforms whose versions do not come up."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from serving_app.core.signatures import DType, Signature, TensorSpec
from serving_app.runtime.loader import LoadOptions

CRASHING = f"{__name__}:Crashing"
HANGING = f"{__name__}:Hanging"


class _Servable:
    """Takes its process down, or never answers."""

    def __init__(self, crashes: bool) -> None:
        spec = TensorSpec("", DType.FLOAT, (-1,))
        self.signatures: Mapping[str, Signature] = {"serving_default": Signature({"x": spec}, {"y": spec})}
        self._crashes = crashes

    def run(
        self, signature_name: str, inputs: Mapping[str, Any], outputs: Sequence[str] | None = None,
        timeout: float | None = None,
    ) -> dict[str, Any]:
        if self._crashes:
            os.kill(os.getpid(), signal.SIGSEGV)
        threading.Event().wait()
        return {}

    def close(self) -> None:
        """Nothing to give back."""


class Crashing:
    """Loads a version that takes its process down at the first run."""

    def load(self, path: str, options: LoadOptions) -> _Servable:
        return _Servable(crashes=True)


class Hanging:
    """Loads a version whose first run never ends."""

    def load(self, path: str, options: LoadOptions) -> _Servable:
        return _Servable(crashes=False)
