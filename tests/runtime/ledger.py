"""Counts the handles of the C API: every one that is made and not freed yet, and that none is freed twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from serving_app.runtime.tensorflow_c.library import library

_MAKERS = [
    *("TF_NewStatus", "TF_NewBuffer", "TF_NewSessionOptions", "TF_NewGraph", "TF_LoadSessionFromSavedModel"),
    *("TF_NewTensor", "TF_AllocateTensor"),
]
_FREERS = [
    *("TF_DeleteStatus", "TF_DeleteBuffer", "TF_DeleteSessionOptions", "TF_DeleteGraph", "TF_DeleteSession"),
    *("TF_DeleteTensor",),
]
_RESULTS = 6  # which argument of TF_SessionRun is the array of output tensors


class Ledger:
    """Handles that are alive, by the function that made them."""

    def __init__(self) -> None:
        self.alive: dict[int, str] = {}
        self.freed = 0

    def _made(self, handle: int | None, maker: str) -> None:
        if handle:
            assert handle not in self.alive
            self.alive[handle] = maker

    def _making(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def make(*arguments: Any) -> Any:
            handle = function(*arguments)
            self._made(handle, name)
            return handle

        return make

    def _freeing(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def free(handle: int, *arguments: Any) -> None:
            del self.alive[handle]
            self.freed += 1
            function(handle, *arguments)

        return free

    def _running(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any) -> None:
            function(*arguments)
            for handle in arguments[_RESULTS]:
                self._made(handle, "TF_SessionRun")

        return run


def keep_ledger(monkeypatch: pytest.MonkeyPatch) -> Ledger:
    """From now on, and until the test ends, every handle is counted."""
    ledger, lib = Ledger(), library()
    for name in _MAKERS:
        monkeypatch.setattr(lib, name, ledger._making(name, getattr(lib, name)))
    for name in _FREERS:
        monkeypatch.setattr(lib, name, ledger._freeing(getattr(lib, name)))
    monkeypatch.setattr(lib, "TF_SessionRun", ledger._running(lib.TF_SessionRun))
    return ledger
