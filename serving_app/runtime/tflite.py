"""TFLite models, run by LiteRT's interpreter.

An interpreter runs one request at a time, in the shapes of that request, so each model has several, which share the
file's content and are made when they are first needed. One that failed is not used again: part of its graph may be set
up for the request that it failed at.

The beginnings of error messages are TensorFlow Serving's (tflite_session.cc).
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from serving_app.core.errors import Code, DeadlineExceeded, InvalidArgument, RuntimeFailure, Unavailable
from serving_app.core.signatures import DType
from serving_app.protocol.dtypes import from_numpy, label, to_numpy
from serving_app.protocol.predict_checks import check_inputs, find_signature, select_outputs
from serving_app.runtime.loader import Array, LoadOptions
from serving_app.runtime.tensorflow_c.library import trim_memory
from serving_app.runtime.tflite_signatures import Entry, Port, find_entries

logger = logging.getLogger(__name__)


class TfliteLoader:
    """Loads TFLite models."""

    def load(self, path: str, options: LoadOptions) -> TfliteModel:
        """Load this file, ready to answer."""
        content = Path(path).read_bytes()
        make = partial(_make_worker, content, options.tflite_threads)
        try:
            first = make()
            _check_operations(first.interpreter)
        except (ValueError, RuntimeError) as error:
            raise RuntimeFailure(Code.INTERNAL, f"{error} (while loading {path})") from error
        pool = _Interpreters(make, options.tflite_interpreters or os.cpu_count() or 1, first)
        return TfliteModel(find_entries(content, first.interpreter), pool)


class TfliteModel:
    """A loaded TFLite model: a Servable.

    A run cannot be stopped: its timeout limits how long it waits for an interpreter.
    """

    def __init__(self, entries: Mapping[str, Entry], interpreters: _Interpreters) -> None:
        self._entries = entries
        self._interpreters = interpreters
        self.signatures = {name: entry.signature for name, entry in entries.items()}

    def run(
        self,
        signature_name: str,
        inputs: Mapping[str, Array],
        outputs: Sequence[str] | None = None,
        timeout: float | None = None,
    ) -> dict[str, Array]:
        """Answer one request; see Servable.run."""
        signature = find_signature(self.signatures, signature_name)
        check_inputs(signature, inputs.keys())
        entry = self._entries[signature_name]
        wanted = select_outputs(signature, outputs) or tuple(signature.outputs)
        fetches = {alias: _find(entry.outputs, alias, signature.outputs[alias].tensor) for alias in wanted}
        feeds = {
            alias: (port, _fit(alias, inputs[alias], port.spec.dtype))
            for alias, spec in signature.inputs.items()
            for port in [_find(entry.inputs, alias, spec.tensor)]
        }
        with self._interpreters.lend(timeout) as worker:
            if entry.runner is None:
                return _run_graph(worker.interpreter, feeds, fetches)
            return _run_signature(worker.find_runner(entry.runner), feeds, fetches)

    def close(self) -> None:
        """Release everything; see Servable.close."""
        self._interpreters.close()


Feeds = Mapping[str, tuple[Port, Array]]


class _Worker:
    """An interpreter with its runners for the file's own signatures, each of which takes a while to look up."""

    def __init__(self, interpreter: Interpreter) -> None:
        self.interpreter = interpreter
        self._runners: dict[str, Any] = {}

    def find_runner(self, name: str) -> Any:
        runner = self._runners.get(name)
        if runner is None:
            runner = self._runners[name] = self.interpreter.get_signature_runner(name)
        return runner


def _make_worker(content: bytes, threads: int) -> _Worker:
    return _Worker(Interpreter(model_content=content, num_threads=threads))


def _check_operations(interpreter: Interpreter) -> None:
    """RuntimeError if the graph has an operation that there is no code for.

    That shows where memory is laid out, which may as well fail because of the sizes: each request brings its own.
    """
    try:
        interpreter.allocate_tensors()
    except RuntimeError as error:
        if "unresolved custom op" in str(error) or "Select TensorFlow op" in str(error):
            raise
        logger.debug("memory for the sizes in the file cannot be laid out: %s", error)


def _find(ports: Mapping[str, Port], alias: str, tensor: str) -> Port:
    if alias not in ports:
        raise RuntimeFailure(Code.INTERNAL, f"Unknown tensor '{tensor}'.")
    return ports[alias]


def _fit(alias: str, array: Array, dtype: int) -> Array:
    """The array as the interpreter reads it. Nothing is cast: InvalidArgument if the element type is another one."""
    given = from_numpy(array.dtype)
    if given != dtype:
        raise InvalidArgument(f'Input "{alias}": the model takes {label(dtype)}, and {label(given)} was sent.')
    if given is DType.STRING and array.ndim == 0:
        # Of an object the interpreter would take the pointer for the text; of an `S` array it takes every byte.
        text = array[()]
        return np.ndarray((), f"S{len(text)}", text or None)
    return np.asarray(array, to_numpy(dtype), order="C")


def _run_graph(interpreter: Interpreter, feeds: Feeds, fetches: Mapping[str, Port]) -> dict[str, Array]:
    """Run the main graph."""
    with _telling("Failed to resize input tensor"):
        for port, array in feeds.values():
            interpreter.resize_tensor_input(port.index, array.shape)
    with _telling("Failed to allocate tensors"):
        interpreter.allocate_tensors()
    with _telling("Failed to set input tensor"):
        for port, array in feeds.values():
            interpreter.set_tensor(port.index, array)
    with _telling("Failed to invoke TfLite interpreter"):
        interpreter.invoke()
    return {alias: _as_array(interpreter.get_tensor(port.index), port) for alias, port in fetches.items()}


def _run_signature(runner: Any, feeds: Feeds, fetches: Mapping[str, Port]) -> dict[str, Array]:
    """Run one of the file's own signatures, which may have a graph of its own."""
    with _telling("Failed to invoke TfLite interpreter", "Failed to resize input tensor"):
        answer = runner(**{alias: array for alias, (_, array) in feeds.items()})
    return {alias: _as_array(answer[alias], port) for alias, port in fetches.items()}


@contextmanager
def _telling(what: str, what_of_values: str = "") -> Iterator[None]:
    """Make the interpreter's errors ours. It raises ValueError for what it was given, RuntimeError for what it did."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        words = what_of_values if what_of_values and isinstance(error, ValueError) else what
        raise RuntimeFailure(Code.INTERNAL, f"{words}: {error}") from error


def _as_array(value: Any, port: Port) -> Array:
    """An output; those without dimensions come as bare values, of which NumPy would cut bytes at their zeros."""
    if isinstance(value, np.ndarray):
        return value
    array = np.empty((), to_numpy(port.spec.dtype))
    array[()] = value
    return array


# --- interpreters ----------------------------------------------------------------------------------------------------


class _Interpreters:
    """The interpreters of one model, at most so many; each is lent to one thread at a time."""

    def __init__(self, make: Callable[[], _Worker], limit: int, first: _Worker) -> None:
        self._make: Callable[[], _Worker] | None = make
        self._limit = limit
        self._idle = [first]
        self._lent = 0
        self._changed = threading.Condition()

    @contextmanager
    def lend(self, timeout: float | None) -> Iterator[_Worker]:
        """An interpreter for the time of a `with` block; one in which the block fails is dropped.

        DeadlineExceeded if none is free within `timeout` seconds, Unavailable after `close`.
        """
        worker = self._take(timeout)
        kept: list[_Worker] = []
        try:
            yield worker
            kept = [worker]
        finally:
            with self._changed:
                self._idle += kept
                self._lent -= 1
                self._changed.notify_all()

    def close(self) -> None:
        """Lend none from now on, wait for those that are lent, and free all."""
        with self._changed:
            self._make = None  # and with it the content of the file
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._lent)
            self._idle.clear()
        trim_memory()

    def _take(self, timeout: float | None) -> _Worker:
        if timeout is not None and timeout <= 0:
            raise DeadlineExceeded("The time for this request was over before the model was run.")
        with self._changed:
            in_time = self._changed.wait_for(
                lambda: self._make is None or self._idle or self._lent < self._limit, timeout
            )
            if self._make is None:
                raise Unavailable("This version of the model has been unloaded; ask again, another one may answer.")
            if not in_time:
                raise DeadlineExceeded("The time for this request was over before an interpreter was free.")
            self._lent += 1
            if self._idle:
                return self._idle.pop()
            make = self._make
        return self._made(make)

    def _made(self, make: Callable[[], _Worker]) -> _Worker:
        """A new interpreter, made without the lock because it takes as long as reading the weights."""
        try:
            return make()
        except BaseException as error:
            with self._changed:
                self._lent -= 1
                self._changed.notify_all()
            if isinstance(error, (RuntimeError, ValueError)):
                raise RuntimeFailure(Code.INTERNAL, f"Failed to make a TfLite interpreter: {error}") from error
            raise
