"""The platform `tensorflow`: SavedModels, served by TensorFlow's C API without its Python package.

A call is prepared once per signature and set of outputs (a plan) and then costs little more than the run itself.
Nothing is cast and no shape is checked here: as in TensorFlow Serving, a tensor goes to the model as the caller sent
it, and what the model says about it goes back to the caller.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from serving_app.core.errors import (
    DeadlineExceeded,
    InvalidArgument,
    NotFound,
    RuntimeFailure,
    ServingError,
    Unimplemented,
)
from serving_app.core.signatures import Signature, TensorSpec
from serving_app.protocol import messages
from serving_app.protocol.calls import JOINT, joint_output
from serving_app.protocol.dtypes import to_numpy
from serving_app.protocol.predict_checks import check_inputs, find_signature, select_outputs
from serving_app.protocol.signature_proto import signatures_from_meta_graph
from serving_app.runtime.loader import Array, LoadOptions
from serving_app.runtime.tensorflow_c.library import Library, Output, library
from serving_app.runtime.tensorflow_c.session import Session, load_session
from serving_app.runtime.tensorflow_c.tensor import from_proto, to_array, to_tensor


class SavedModelLoader:
    """Loads SavedModels. Making one opens TensorFlow's library, if this process has not done so yet."""

    def __init__(self) -> None:
        library()

    def load(self, path: str, options: LoadOptions) -> SavedModel:
        """Load the SavedModel in this local directory, ready to answer."""
        _check_files(Path(path))
        try:
            session = load_session(path, options)
        except RuntimeFailure as failure:
            if path in failure.message:
                raise
            # Of a torn file TensorFlow says how many bytes it wanted, and not where.
            raise RuntimeFailure(failure.code, f"{failure.message} (while loading {path})") from failure
        try:
            return SavedModel(session, signatures_from_meta_graph(session.meta_graph))
        except BaseException:
            session.close()
            raise


_QUICK_S = 0.0005
"""A call that takes less than this runs in the calling thread: handing it to TensorFlow's threads and waiting for them
costs 30 microseconds on an idle machine, and several times that on a busy one."""


def _may_loop(meta_graph: bytes) -> bool:
    """Whether the graph may have loops, whose length a request may choose: their runs must stay stoppable.

    Looks for the names of the operations in the bytes, which errs on the safe side.
    """
    return b"While" in meta_graph or b"NextIteration" in meta_graph


class _Pace:
    """How long the calls of a plan take: a running average that begins slow."""

    def __init__(self) -> None:
        self.seconds = 1.0

    def measure(self, seconds: float) -> None:
        # A slow beginning (the first run optimises the graph) is forgotten within some runs.
        self.seconds = seconds if self.seconds == 1.0 else 0.75 * self.seconds + 0.25 * seconds


class _Plan(NamedTuple):
    """Everything about a call that does not change from call to call."""

    inputs: tuple[str, ...]  # the same one several times where signatures have tensors of their own for it
    names: frozenset[str]  # of the inputs
    feeds: Any  # array of Output, in the order of `inputs`
    outputs: tuple[tuple[str, np.dtype[Any]], ...]
    fetches: Any  # array of Output, in the order of `outputs`
    pace: _Pace


_Key = tuple[str, tuple[str, ...]]
"""What a plan is for: a signature, and the outputs that are wanted; none means all."""

_MOST_PLANS = 1000
"""Clients choose outputs, and for joint runs signatures and their order: more combinations than memory could hold."""


class SavedModel:
    """A loaded SavedModel: a Servable."""

    def __init__(self, session: Session, signatures: Mapping[str, Signature]) -> None:
        self._session = session
        self._lib = library()
        self._plans: dict[_Key, _Plan] = {}
        self.may_loop = _may_loop(session.meta_graph)
        self.signatures = signatures

    def run(
        self,
        signature_name: str,
        inputs: Mapping[str, Array],
        outputs: Sequence[str] | None = None,
        timeout: float | None = None,
    ) -> dict[str, Array]:
        """Answer one request; see Servable.run."""
        wanted = tuple(sorted(outputs)) if outputs else ()
        plan = self._plans.get((signature_name, wanted))
        if plan is None:
            plan = self._prepare((signature_name, wanted), {signature_name: wanted}, _plain_name)
        if inputs.keys() != plan.names:
            inputs = _complete(self._lib, find_signature(self.signatures, signature_name), inputs)
        return self._run(plan, inputs, timeout)

    def run_joint(
        self, parts: Mapping[str, Sequence[str]], inputs: Mapping[str, Array], timeout: float | None = None
    ) -> dict[str, Array]:
        """Answer several signatures by one run; see RunsJointly.run_joint."""
        wanted = tuple(joint_output(name, alias) for name in parts for alias in parts[name])
        plan = self._plans.get((JOINT, wanted))
        if plan is None:
            plan = self._prepare((JOINT, wanted), parts, joint_output)
        if inputs.keys() != plan.names:
            for name in parts:
                check_inputs(self.signatures[name], inputs.keys())
        return self._run(plan, inputs, timeout)

    def _run(self, plan: _Plan, inputs: Mapping[str, Array], timeout: float | None) -> dict[str, Array]:
        # TensorFlow reads a timeout of 0 as "no limit", so time that is up must not get there.
        if timeout is not None and timeout <= 0:
            raise DeadlineExceeded("The time for this request was over before the model was run.")
        timeout_ms = None if timeout is None else math.ceil(timeout * 1000)
        lib = self._lib
        tensors: list[int] = []
        try:
            # One by one, so that what was made before a failure is freed.
            for name in plan.inputs:
                tensors.append(_tensor(lib, name, inputs[name]))
            started = time.perf_counter()
            here = plan.pace.seconds < _QUICK_S and not self.may_loop
            results = iter(self._session.run(plan.feeds, tensors, plan.fetches, timeout_ms, here=here))
            plan.pace.measure(time.perf_counter() - started)
        finally:
            for tensor in tensors:
                lib.TF_DeleteTensor(tensor)
        try:
            # Each array takes its tensor over; if one cannot be made, those after it are still ours.
            return {name: to_array(lib, next(results), form) for name, form in plan.outputs}
        finally:
            for tensor in results:
                lib.TF_DeleteTensor(tensor)

    def close(self) -> None:
        """Release everything; see Servable.close."""
        self._session.close()

    def _prepare(
        self, key: _Key, parts: Mapping[str, Sequence[str]], name_output: Callable[[str, str], str]
    ) -> _Plan:
        """The plan for signatures that take the same inputs, and the outputs that are wanted of each (none means all).

        It is kept under this key, unless there are very many.
        """
        feeds: dict[tuple[str, str], Output] = {}  # signatures may share a tensor, which may be fed only once
        fetches, outputs = [], []
        for signature_name, wanted in parts.items():
            signature = find_signature(self.signatures, signature_name)
            select_outputs(signature, wanted)
            for alias, spec in signature.inputs.items():
                feeds[alias, spec.tensor] = self._port(signature_name, "input", alias, spec)[0]
            for alias in wanted or signature.outputs:
                output, dtype = self._port(signature_name, "output", alias, signature.outputs[alias])
                fetches.append(output)
                outputs.append((name_output(signature_name, alias), to_numpy(dtype)))
        inputs = tuple(alias for alias, _ in feeds)
        plan = _Plan(
            inputs,
            frozenset(inputs),
            (Output * len(feeds))(*feeds.values()),
            tuple(outputs),
            (Output * len(fetches))(*fetches),
            _Pace(),
        )
        if len(self._plans) < _MOST_PLANS:
            self._plans[key] = plan
        return plan

    def _port(self, signature_name: str, role: str, name: str, spec: TensorSpec) -> tuple[Output, int]:
        if not spec.tensor:
            way = (
                "ask for other outputs by an output filter"
                if role == "output"
                else "export a signature that takes its parts as plain tensors"
            )
            raise Unimplemented(
                f'The {role} "{name}" of signature "{signature_name}" is no plain tensor (it is sparse, ragged or of '
                f"another composite type), which cannot be sent: {way}."
            )
        return self._session.find(spec.tensor)


def _plain_name(_: str, alias: str) -> str:
    return alias


def _check_files(path: Path) -> None:
    """Errors of TensorFlow Serving for a directory that holds no SavedModel; the rest is for TensorFlow to say."""
    if (path / "saved_model.pb").exists() or (path / "saved_model.pbtxt").exists():
        return
    if (path / "export.meta").exists():
        raise Unimplemented("Session Bundle is deprecated and removed.")
    raise NotFound(
        "Specified file path does not appear to contain a SavedModel bundle (should have a file called "
        f"`saved_model.pb`)\nSpecified file path: {path}"
    )


def _complete(lib: Library, signature: Signature, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
    """Inputs with the signature's defaults for what is missing; TensorFlow Serving's errors if they do not fit it."""
    check_inputs(signature, inputs.keys())
    defaults = messages.SignatureDef.FromString(signature.encoded).defaults
    filled = {
        name: to_array(lib, from_proto(lib, defaults[name].SerializeToString()), to_numpy(defaults[name].dtype))
        for name in signature.inputs.keys() - inputs.keys()
    }
    return {**inputs, **filled}


def _tensor(lib: Library, name: str, array: Array) -> int:
    try:
        return to_tensor(lib, array)
    except RuntimeFailure:
        raise
    except ServingError as error:
        raise InvalidArgument(f'Input "{name}": {error}') from error
