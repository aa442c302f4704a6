"""The contract of a model runtime, and the platforms that fulfil it.

A Loader turns a directory into a Servable; a Servable answers until it is closed. Nothing above this package knows
what a model is made of.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from serving_app.core.errors import FailedPrecondition, InvalidArgument
from serving_app.core.signatures import Signature

Array = np.ndarray[Any, Any]
"""A tensor: dtypes as in `serving_app.protocol.dtypes`, strings as an object array of bytes."""


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """How to load a version. A field that is None leaves the choice to the runtime; a runtime ignores what it lacks.

    `session_config` is a serialised tensorflow.ConfigProto; the other fields are applied on top of it.
    """

    tags: tuple[str, ...] = ("serve",)
    intra_op_parallelism: int | None = None  # threads inside one operation; 0 means one per core
    inter_op_parallelism: int | None = None  # operations at a time; 0 means one per core, -1 the caller's thread alone
    gpu_memory_fraction: float | None = None  # share of each GPU's memory taken at start
    gpu_allow_growth: bool | None = None  # take GPU memory as it is needed
    allow_soft_placement: bool | None = True  # run on the CPU what a model pinned to a device that is not here
    xla: bool | None = None  # whether parts of the graph are looked for that XLA can compile
    mixed_precision: Literal["bfloat16"] | None = None  # what operations compute in that can do with less than float32
    custom_op_libraries: tuple[str, ...] = ()  # shared libraries that register operations, loaded before the model
    session_config: bytes = b""
    prefer_tflite: bool = False  # serve model.tflite where there is one
    tflite_interpreters: int | None = None  # runs at a time; None means one per core
    tflite_threads: int = 1  # threads inside one run


class Servable(Protocol):
    """A loaded version. Every method may be called from any thread; `run` from many at a time.

    One that has an attribute `may_loop` which is true is never run on an event loop, however quick it was: what a
    request says may decide how long it runs.
    """

    @property
    def signatures(self) -> Mapping[str, Signature]:
        """What can be asked of it."""
        ...

    def run(
        self,
        signature_name: str,
        inputs: Mapping[str, Array],
        outputs: Sequence[str] | None = None,
        timeout: float | None = None,
    ) -> dict[str, Array]:
        """Answer one request; blocks until it is done.

        `outputs` names what to compute; None or nothing means every output of the signature. `timeout` is in seconds.
        The arrays in the answer may be read-only and are the caller's for good, also after `close`. Inputs may be
        changed again once this has returned unless the model keeps them (a variable assigned from an input does).
        Raises a ServingError: DeadlineExceeded when the time is over, Unavailable after `close`, RuntimeFailure with
        what the runtime said.
        """
        ...

    def close(self) -> None:
        """Release everything. Refuses new runs at once, waits for those in flight; calling it again does nothing."""
        ...


class Loader(Protocol):
    """Turns a directory into a Servable."""

    def load(self, path: str, options: LoadOptions) -> Servable:
        """Load the version at this local path, ready to answer. Raises a ServingError and leaves nothing behind."""
        ...


@dataclass(frozen=True, slots=True)
class _Platform:
    target: str
    install_hint: str


_platforms: dict[str, _Platform] = {
    "tensorflow": _Platform(
        "serving_app.runtime.formats:TensorFlowLoader",
        "install serving-app[cpu] or serving-app[gpu], which bring TensorFlow's library",
    ),
}


def register_platform(name: str, target: str, install_hint: str) -> None:
    """Make a platform known by name.

    `target` is `package.module:Class`, called without arguments; `install_hint` tells how to get what it imports.
    """
    _platforms[name] = _Platform(target, install_hint)


def loader_for(platform: str) -> Loader:
    """The loader of a platform: a registered name, or a loader of your own as `package.module:Class`.

    Its module is imported now; a framework of which there are several may wait for the version that needs it.
    """
    known = _platforms.get(platform)
    if known is None and ":" not in platform:
        raise InvalidArgument(
            f"Unknown platform {platform!r}. Use one of {sorted(_platforms)}, or name a loader class of your own "
            "as `package.module:Class`."
        )
    target, hint = (known.target, known.install_hint) if known else (platform, "make it importable in this process")
    module_name, _, attribute = target.partition(":")
    try:
        factory = getattr(importlib.import_module(module_name), attribute)
        loader: Loader = factory()
    except (ImportError, AttributeError) as error:
        raise FailedPrecondition(f"Platform {platform!r} cannot be used ({error}): {hint}.") from error
    return loader
