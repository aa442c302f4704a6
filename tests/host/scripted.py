"""A platform whose every step the test decides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from threading import Barrier, Event
from typing import Any

from serving_app.core.errors import DeadlineExceeded, FailedPrecondition
from serving_app.core.signatures import DType, Signature, TensorSpec
from serving_app.runtime.loader import LoadOptions

SCRIPTED_PLATFORM = f"{__name__}:ScriptedLoader"


class Scripted:
    """A servable that does as its test says, and counts its runs."""

    def __init__(self) -> None:
        spec = TensorSpec("", DType.FLOAT, (-1,))
        self.signatures: Mapping[str, Signature] = {"serving_default": Signature({"x": spec}, {"y": spec})}
        self.runs: list[int] = []
        self.closed = 0
        self.running, self.go, self.closing = Event(), Event(), Event()
        self.go.set()
        self.meeting = Barrier(1)

    def run(
        self, signature_name: str, inputs: Mapping[str, Any], outputs: Sequence[str] | None = None,
        timeout: float | None = None,
    ) -> dict[str, Any]:
        values = inputs["x"]
        self.runs.append(len(values))
        self.running.set()
        assert self.go.wait(30)
        self.meeting.wait(30)
        if (values == -1).any():
            raise FailedPrecondition("a bad member")
        if (values == -2).any():
            raise KeyError("a mistake of the runtime")
        if (values == -3).any():
            raise DeadlineExceeded("too late")
        return {"y": values[:1] if (values == -4).any() else values * 2}

    def close(self) -> None:
        self.closing.set()
        assert self.go.wait(30)
        self.closed += 1


class ScriptedLoader:
    """Loads the servable that the test has laid ready."""

    ready: list[Scripted] = []  # noqa: RUF012 - the loader is made anew by name, so what it shares lies here

    def load(self, path: str, options: LoadOptions) -> Scripted:
        servable = Scripted()
        self.ready.append(servable)
        return servable
