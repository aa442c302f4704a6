"""Warm-up: requests that a version answers to nobody before it takes traffic.

The first run of a signature is slow, because the graph is optimised, kernels are compiled and memory is taken for it.
Warm-up has that done before a client waits for it. There are two sources of requests: the file that TensorFlow
Serving reads from a version's directory (saved_model_warmup.cc), and the signatures themselves, from which requests
can be made up.

A logged request that fails makes the load fail: it was answered once, so the version is not what it should be. Made
up requests may well be nonsense to a model, so one that fails is only logged.

No run has a time limit here. The first one may take minutes; what the whole load may take is the caller's affair.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from serving_app.core.errors import (
    DataLoss,
    FailedPrecondition,
    InvalidArgument,
    ResourceExhausted,
    RuntimeFailure,
    ServingError,
)
from serving_app.core.servable import ServableId
from serving_app.core.signatures import Signature, TensorSpec
from serving_app.host.meter import WarmupMeter
from serving_app.protocol.calls import Call, Outputs, Reply
from serving_app.protocol.dtypes import to_numpy
from serving_app.protocol.prediction_log import MAX_WARMUP_RECORDS, WARMUP_FILE, LoggedCall, decode_log, logged_call
from serving_app.protocol.signature_proto import default_inputs
from serving_app.protocol.tensor_proto import Array
from serving_app.protocol.tfrecord import decode_records

logger = logging.getLogger(__name__)

Run = Callable[[Call], Reply]
"""Runs a call on the version as a client's call runs that is alone."""

_DEFAULT_SIZES = (1,)


@dataclass(frozen=True, slots=True)
class Warmup:
    """Which requests are run, how often, and for which batch sizes some are made up.

    Where batching allows only some sizes, each of those takes the place of `batch_sizes` unless that was set.
    """

    enabled: bool = True
    iterations: int = 1
    synthetic: bool = False
    batch_sizes: tuple[int, ...] = _DEFAULT_SIZES


def warm_up(
    servable: ServableId,
    path: str,
    signatures: Mapping[str, Signature],
    warmup: Warmup,
    run: Run,
    allowed_batch_sizes: tuple[int, ...] = (),
    meter: WarmupMeter | None = None,
) -> None:
    """Run the requests of the version in this local directory; returns when they are answered.

    Raises a ServingError with the code and the message of the first logged request that fails, and where it stands.
    """
    if warmup.enabled:
        _run_logged(servable, Path(path) / WARMUP_FILE, signatures, warmup.iterations, run, meter)
    if warmup.synthetic:
        is_set = warmup.batch_sizes != _DEFAULT_SIZES
        sizes = warmup.batch_sizes if is_set or not allowed_batch_sizes else allowed_batch_sizes
        _run_made_up(servable, signatures, sizes, warmup.iterations, run)


# --- logged requests -------------------------------------------------------------------------------------------------


def _run_logged(
    servable: ServableId, file: Path, signatures: Mapping[str, Signature], iterations: int, run: Run,
    meter: WarmupMeter | None,
) -> None:
    if not file.exists():
        return
    started, number, status = time.perf_counter(), 1, "OK"
    try:
        for record in _read(file):
            if number > MAX_WARMUP_RECORDS:
                raise InvalidArgument(f"Number of warmup records exceeds the maximum ({MAX_WARMUP_RECORDS}) at {file}")
            logged = _logged(record, file, signatures)
            if logged is not None:
                _run_often(logged.call, iterations, run, logged.check)
            number += 1
    except ServingError as error:
        status = f"{error.code.name}: {error.message}"
        # What TensorFlow Serving would say comes first, as it would say it.
        where = f"(record {number} of {file}, in the warm-up of {servable})"
        raise RuntimeFailure(error.code, f"{error.message} {where}") from error
    finally:
        if meter is not None:
            meter.ended(time.perf_counter() - started, number - 1, status)
    if number > 1:
        logger.info("%s has answered the %d records of %s", servable, number - 1, file)


def _read(file: Path) -> Iterator[bytes]:
    try:
        encoded = file.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise FailedPrecondition(f"{file} cannot be read ({error}); make it a readable file or remove it.") from error
    try:
        yield from decode_records(encoded)
    except DataLoss as error:
        raise DataLoss(f"{error.message}. Please verify your warmup data is in TFRecord format.") from error


def _logged(record: bytes, file: Path, signatures: Mapping[str, Signature]) -> LoggedCall | None:
    try:
        log = decode_log(record)
    except InvalidArgument as error:
        raise InvalidArgument(f"Failed to parse warmup record: {_excerpt(record)} from {file}") from error
    return logged_call(log, signatures)


def _excerpt(record: bytes) -> str:
    """The beginning of a record, readable on one line: TensorFlow Serving quotes all of it, be it megabytes."""
    text = record[:100].decode("latin-1").encode("unicode_escape").decode("ascii")
    return text if len(record) <= 100 else f"{text}... ({len(record)} bytes)"


def _run_often(call: Call, times: int, run: Run, check: Callable[[Outputs], object] = lambda _: None) -> None:
    for _ in range(times):
        reply = run(call)
        if isinstance(reply, ServingError):
            raise reply
        check(reply)


# --- requests that are made up ---------------------------------------------------------------------------------------


def _run_made_up(
    servable: ServableId, signatures: Mapping[str, Signature], batch_sizes: tuple[int, ...], iterations: int, run: Run
) -> None:
    for name, signature in signatures.items():
        if name.startswith(_INTERNAL):
            continue
        needed = _needed(signature)
        tried: list[dict[str, tuple[int, ...]]] = []
        for batch_size in batch_sizes:
            shapes = {alias: _shape(spec, batch_size) for alias, spec in needed.items()}
            if shapes in tried:
                continue  # nothing in it depends on the batch size
            tried.append(shapes)
            try:
                inputs = {alias: _blank(shapes[alias], spec) for alias, spec in needed.items()}
                _run_often(Call(name, inputs, _sendable(signature)), iterations, run)
                logger.info("%s has answered signature %r with shapes %s", servable, name, shapes)
            except ServingError as error:
                logger.warning(
                    "%s: the request that was made up for signature %r with shapes %s failed, which may be the fault "
                    "of its values: %s", servable, name, shapes, error,
                )


_INTERNAL = "__saved_model_"
"""How the names of signatures begin that TensorFlow keeps for its own use."""


def _needed(signature: Signature) -> dict[str, TensorSpec]:
    """The inputs without a default value; a default is the model's own choice, and better than zeros."""
    defaults = default_inputs(signature)
    return {alias: spec for alias, spec in signature.inputs.items() if alias not in defaults}


def _sendable(signature: Signature) -> tuple[str, ...] | None:
    """The outputs that a request can ask for, None for all; some may be sparse or of another composite type."""
    outputs = tuple(alias for alias, spec in signature.outputs.items() if spec.tensor)
    return outputs if len(outputs) < len(signature.outputs) else None


def _shape(spec: TensorSpec, batch_size: int) -> tuple[int, ...]:
    """The sizes of an input: the batch size where the first is unknown, 1 where others are; any rank may be 1."""
    if spec.shape is None:
        return (batch_size,)
    return tuple(size if size >= 0 else 1 if place else batch_size for place, size in enumerate(spec.shape))


def _blank(shape: tuple[int, ...], spec: TensorSpec) -> Array:
    form = to_numpy(spec.dtype)
    try:
        return np.full(shape, b"", form) if form.kind == "O" else np.zeros(shape, form)
    except (MemoryError, ValueError) as error:  # ValueError: larger than any memory
        raise ResourceExhausted(
            f"an input of shape {shape} cannot be made ({error}); set a smaller batch size"
        ) from error
