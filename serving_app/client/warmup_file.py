"""Writing the requests that a version is warmed up with, without TensorFlow.

The file is TensorFlow Serving's, which reads it as well. All of its requests are Predict requests: what Classify and
Regress requests run can be said by the input `inputs` of the same signatures, as serialized tf.Examples.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError

from serving_app.core.errors import DataLoss, InvalidArgument, NotFound, ServingError
from serving_app.core.signatures import DEFAULT_SIGNATURE, Signature
from serving_app.protocol import messages
from serving_app.protocol.calls import Call
from serving_app.protocol.input_tensors import to_inputs
from serving_app.protocol.predict_checks import find_signature
from serving_app.protocol.prediction_log import MAX_WARMUP_RECORDS, WARMUP_FILE, encode_predict_log
from serving_app.protocol.signature_proto import decode_signature
from serving_app.protocol.tfrecord import encode_record

Inputs = Mapping[str, Any]


def write_warmup(version_dir: str | os.PathLike[str], requests: Iterable[Inputs | tuple[str, Inputs]]) -> Path:
    """Write the requests that the SavedModel in this local directory is warmed up with; returns the file's path.

    A request is the inputs of `serving_default` by name, or a pair of a signature's name and its inputs: arrays, nested
    lists or scalars, which are turned into the signature's element types as in `Model.predict`. A file that is there
    already is replaced. Raises InvalidArgument or FailedPrecondition, telling which request it is, for one that does
    not fit its signature, and OSError where the directory cannot be written; nothing is written then.
    """
    content = encode_warmup(version_dir, requests)
    file = Path(version_dir, WARMUP_FILE)
    file.parent.mkdir(exist_ok=True)
    part = file.with_name(f"{file.name}.{os.getpid()}.part")
    try:
        part.write_bytes(content)
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)
    return file


def encode_warmup(version_dir: str | os.PathLike[str], requests: Iterable[Inputs | tuple[str, Inputs]]) -> bytes:
    """The content of that file, which is not written. Raises what `write_warmup` raises of requests."""
    signatures = _read_signatures(Path(version_dir))
    records = [_encode(number, request, signatures) for number, request in enumerate(requests, 1)]
    if len(records) > MAX_WARMUP_RECORDS:
        raise InvalidArgument(
            f"{len(records)} requests are too many, {MAX_WARMUP_RECORDS} is the limit; leave some out"
        )
    return b"".join(records)


def _read_signatures(version: Path) -> dict[str, Signature]:
    path = version / "saved_model.pb"
    try:
        saved = messages.SavedModel.FromString(path.read_bytes())
    except FileNotFoundError as error:
        raise NotFound(f"{version} holds no saved_model.pb; export the model first, then write its warm-up") from error
    except DecodeError as error:
        raise DataLoss(f"{path} cannot be read ({error}); export the model again") from error
    graphs = [graph.signature_def for graph in saved.meta_graphs]
    return {name: decode_signature(graph[name]) for graph in graphs for name in graph}


def _encode(number: int, request: Inputs | tuple[str, Inputs], signatures: Mapping[str, Signature]) -> bytes:
    name, inputs = request if isinstance(request, tuple) else (DEFAULT_SIGNATURE, request)
    try:
        signature = find_signature(signatures, name)
        return encode_record(encode_predict_log(Call(name, to_inputs(inputs, signature, name))))
    except ServingError as error:
        raise type(error)(f"{error.message} (request {number})") from error
