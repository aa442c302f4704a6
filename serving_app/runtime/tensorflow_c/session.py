"""A SavedModel loaded into a session: load, run, close.

This is TensorFlow's own loader, the one TensorFlow Serving uses: it picks the graph by tags, restores the variables,
and runs the initialisers with their assets, for TF1 and TF2 exports alike.
"""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from collections.abc import Sequence
from ctypes import c_char_p, c_void_p
from typing import Any

from google.protobuf.message import DecodeError

from serving_app.core.errors import InvalidArgument, Unavailable
from serving_app.protocol import messages
from serving_app.runtime.cpus import find_share
from serving_app.runtime.loader import LoadOptions
from serving_app.runtime.session_overrides import override_session
from serving_app.runtime.tensorflow_c.library import (
    Library,
    Output,
    buffer_over,
    checked_status,
    contents,
    library,
    load_operations,
    raise_for,
    trim_memory,
)

_HERE = buffer_over(messages.RunOptions(inter_op_thread_pool=-1).SerializeToString())
_HERE_REFERENCE = ctypes.byref(_HERE)


class Session:
    """One loaded graph. Any thread may call any method; runs go on in parallel.

    `meta_graph` is the serialised MetaGraphDef of the loaded graph.
    """

    def __init__(self, lib: Library, session: int, graph: int, meta_graph: bytes) -> None:
        self._lib = lib
        self._session = session
        self._graph = graph
        self.meta_graph = meta_graph
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._running = 0
        self._closing = False
        # Frees exactly once: on close, or when a session is dropped unclosed. Not at exit, when TensorFlow may be gone.
        self._free = weakref.finalize(self, _free, lib, session, graph)
        self._free.atexit = False

    def find(self, tensor: str) -> tuple[Output, int]:
        """A tensor by its name in the graph, `operation:index`, and its element type.

        InvalidArgument if the graph has no such tensor.
        """
        name, _, index = tensor.partition(":")
        lib = self._lib
        self._enter()
        try:
            operation = lib.TF_GraphOperationByName(self._graph, name.encode())
            position = int(index) if index.isdecimal() else 0
            if not operation or position >= lib.TF_OperationNumOutputs(operation):
                raise InvalidArgument(f"A signature names the tensor {tensor}, which is not in the graph of the model.")
            output = Output(operation, position)
            return output, lib.TF_OperationOutputType(output)
        finally:
            self._leave()

    def run(
        self, feeds: Any, tensors: Sequence[int], fetches: Any, timeout_ms: int | None = None, *, here: bool = False
    ) -> list[int]:
        """Feed tensors, fetch tensors; `feeds` and `fetches` are arrays of Output. The caller frees all tensors.

        `here` runs the operations in the calling thread, one after the other, which saves waking others up: worth it
        for what takes less than that. Nothing can stop such a run. Else the time limit is TensorFlow's: it stops a run
        between two operations, never inside one.
        """
        # Spelled out rather than by context managers, which would cost a third of a small model's run.
        options = None
        if here:
            options = _HERE_REFERENCE
        elif timeout_ms is not None:
            options = ctypes.byref(buffer_over(messages.RunOptions(timeout_in_ms=timeout_ms).SerializeToString()))
        given, wanted = len(tensors), len(fetches)
        values = (c_void_p * given)(*tensors)
        results = (c_void_p * wanted)()
        lib = self._lib
        self._enter()
        status = lib.TF_NewStatus()
        try:
            lib.TF_SessionRun(
                self._session, options, feeds, values, given, fetches, results, wanted, None, 0, None, status
            )
            raise_for(lib, status)
        finally:
            lib.TF_DeleteStatus(status)
            self._leave()
        return list(results)

    def close(self) -> None:
        """Refuse new runs, wait for those in flight, free everything. More calls do nothing but wait for the first."""
        with self._idle:
            self._closing = True
            self._idle.wait_for(lambda: not self._running)
            self._free()

    def _enter(self) -> None:
        with self._lock:
            if self._closing:
                raise Unavailable("This version of the model has been unloaded; ask again, another one may answer.")
            self._running += 1

    def _leave(self) -> None:
        with self._lock:
            self._running -= 1
            if self._closing:
                self._idle.notify_all()


def load_session(path: str, options: LoadOptions) -> Session:
    """Load the SavedModel in this directory. Raises what TensorFlow reports, and leaves nothing behind if it fails."""
    lib = library()
    for custom in options.custom_op_libraries:
        load_operations(custom)
    encoded_tags = [tag.encode() for tag in options.tags]
    tags = (c_char_p * len(encoded_tags))(*encoded_tags)
    config = override_session(session_config(options), path)
    session_options = lib.TF_NewSessionOptions()
    meta_graph = lib.TF_NewBuffer()
    graph = lib.TF_NewGraph()
    try:
        with checked_status(lib) as status:
            lib.TF_SetConfig(session_options, config, len(config), status)
        with checked_status(lib) as status:
            session = lib.TF_LoadSessionFromSavedModel(
                *(session_options, None, os.fsencode(path), tags, len(tags)),
                *(graph, meta_graph, status),
            )
        return Session(lib, session, graph, contents(meta_graph))
    except BaseException:
        lib.TF_DeleteGraph(graph)
        raise
    finally:
        lib.TF_DeleteBuffer(meta_graph)
        lib.TF_DeleteSessionOptions(session_options)


def session_config(options: LoadOptions) -> bytes:
    """The serialised tensorflow.ConfigProto that these options ask for.

    A field that is set always goes on top of what `session_config` says, also with 0, as TensorFlow Serving's flags do.
    Where nobody names a number of threads in a container that has a share of the machine's processors, there are as
    many as that is: TensorFlow counts the machine's, and threads beyond the share only wait for one another.
    """
    try:
        config = messages.ConfigProto.FromString(options.session_config)
    except DecodeError as error:
        raise InvalidArgument("The session configuration is not a serialised tensorflow.ConfigProto.") from error
    share = find_share() or 0
    for threads, wanted in (("intra_op_parallelism_threads", options.intra_op_parallelism),
                            ("inter_op_parallelism_threads", options.inter_op_parallelism)):  # fmt: skip
        setattr(config, threads, getattr(config, threads) or share if wanted is None else wanted)
    if options.gpu_memory_fraction is not None:
        config.gpu_options.per_process_gpu_memory_fraction = options.gpu_memory_fraction
    if options.gpu_allow_growth is not None:
        config.gpu_options.allow_growth = options.gpu_allow_growth
    if options.allow_soft_placement is not None:
        config.allow_soft_placement = options.allow_soft_placement
    if options.xla is not None:
        optimizer = config.graph_options.optimizer_options
        optimizer.global_jit_level = optimizer.ON_1 if options.xla else optimizer.OFF
    if options.mixed_precision == "bfloat16":
        # bundle_factory_util.cc; the rewriter that it names came from oneDNN's authors and needs no GPU.
        rewriters = config.graph_options.rewrite_options
        rewriters.auto_mixed_precision_onednn_bfloat16 = rewriters.ON
    encoded: bytes = config.SerializeToString()
    return encoded


def _free(lib: Library, session: int, graph: int) -> None:
    status = lib.TF_NewStatus()
    lib.TF_CloseSession(session, status)
    # Whatever these two report, everything local is freed (c_api.h), so there is nothing left to do about it.
    lib.TF_DeleteSession(session, status)
    lib.TF_DeleteStatus(status)
    lib.TF_DeleteGraph(graph)
    trim_memory()
