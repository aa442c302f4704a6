"""What can be asked of a TFLite model.

There are three ways for a file to say that, in this order: SignatureDefs in its metadata, which TensorFlow Serving
reads (signature_def_util.cc); signatures of the format's own, which converters write today; or nothing, and then the
graph's inputs and outputs make up the one signature `serving_default`, as in TensorFlow Serving (tflite_session.cc).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert.interpreter import Interpreter
from flatbuffers import flexbuffers
from google.protobuf.message import DecodeError

from serving_app.core.errors import DataLoss
from serving_app.core.signatures import DEFAULT_SIGNATURE, Signature, TensorSpec
from serving_app.protocol import messages
from serving_app.protocol.dtypes import from_numpy
from serving_app.protocol.signature_proto import decode_signature, make_signature

_METADATA_NAME = b"signature_defs_metadata"

# Of schema.fbs; the generated classes of the whole schema take a second to import.
_MODEL_BUFFERS = 4
_MODEL_METADATA = 6
_METADATA_FIELDS = 0, 1  # name, buffer
_BUFFER_DATA = 0


@dataclass(frozen=True, slots=True)
class Port:
    """A tensor of the graph that a request feeds or fetches."""

    index: int
    spec: TensorSpec


@dataclass(frozen=True, slots=True)
class Entry:
    """A signature, and where its inputs and outputs are in the graph.

    `runner` is the name by which the interpreter itself knows it; None means that it is of the main graph. An alias
    whose tensor is not in the graph has no port.
    """

    signature: Signature
    inputs: Mapping[str, Port]
    outputs: Mapping[str, Port]
    runner: str | None = None


def find_entries(content: bytes, interpreter: Interpreter) -> dict[str, Entry]:
    """The signatures of a model by name, in the order of their names. DataLoss if its metadata cannot be read."""
    encoded = _read_metadata(content)
    inputs = [_port(details) for details in interpreter.get_input_details()]
    outputs = [_port(details) for details in interpreter.get_output_details()]
    if encoded:
        return {name: _described_entry(encoded[name], inputs, outputs) for name in sorted(encoded)}
    if native := interpreter.get_signature_list():
        return {name: _native_entry(interpreter, name) for name in sorted(native)}
    return {DEFAULT_SIGNATURE: _entry(_name_ports(inputs), _name_ports(outputs))}


def _port(details: Mapping[str, Any]) -> Port:
    # A shape that is fixed comes without the one that shows which dimensions are free.
    shape = details["shape_signature"] if len(details["shape_signature"]) else details["shape"]
    dtype = from_numpy(np.dtype(details["dtype"]))
    return Port(details["index"], TensorSpec(details["name"], dtype, tuple(int(size) for size in shape)))


def _entry(inputs: Mapping[str, Port], outputs: Mapping[str, Port], runner: str | None = None) -> Entry:
    signature = make_signature(
        {alias: port.spec for alias, port in inputs.items()}, {alias: port.spec for alias, port in outputs.items()}
    )
    return Entry(signature, inputs, outputs, runner)


def _name_ports(ports: list[Port]) -> dict[str, Port]:
    """Ports by their tensors' names without what follows a colon; by the whole name where that is taken already."""
    named: dict[str, Port] = {}
    for port in ports:
        short = port.spec.tensor.partition(":")[0]
        named[port.spec.tensor if short in named else short] = port
    return named


def _native_entry(interpreter: Interpreter, name: str) -> Entry:
    runner = interpreter.get_signature_runner(name)
    inputs, outputs = runner.get_input_details(), runner.get_output_details()
    return _entry(
        {alias: _port(details) for alias, details in inputs.items()},
        {alias: _port(details) for alias, details in outputs.items()},
        name,
    )


def _described_entry(encoded: bytes, inputs: list[Port], outputs: list[Port]) -> Entry:
    try:
        signature = decode_signature(messages.SignatureDef.FromString(encoded))
    except DecodeError as error:
        raise DataLoss(f"A signature in the metadata of the TFLite model cannot be read: {error}") from error
    return Entry(signature, dict(_match(signature.inputs, inputs)), dict(_match(signature.outputs, outputs)))


def _match(specs: Mapping[str, TensorSpec], ports: list[Port]) -> Iterator[tuple[str, Port]]:
    """The ports that a SignatureDef names, which it may do with or without the `:0` that a tensor's name ends on."""
    by_name = {port.spec.tensor.removesuffix(":0"): port for port in ports}
    for alias, spec in specs.items():
        port = by_name.get(spec.tensor.removesuffix(":0"))
        if port is not None:
            yield alias, port


# --- the file --------------------------------------------------------------------------------------------------------


def _read_metadata(content: bytes) -> dict[str, bytes]:
    """The serialised SignatureDefs in a file's metadata, by name; empty if it has none.

    The interpreter has verified the file, but not what stands in its buffers.
    """
    model = flatbuffers.table.Table(content, flatbuffers.encode.Get(flatbuffers.packer.uoffset, content, 0))
    for metadata in _tables(model, _MODEL_METADATA):
        name, buffer = (metadata.Offset(_slot(field)) for field in _METADATA_FIELDS)
        if name and metadata.String(name + metadata.Pos) == _METADATA_NAME:
            at = metadata.Get(flatbuffers.number_types.Uint32Flags, buffer + metadata.Pos) if buffer else 0
            return _read_map(_read_buffer(model, at))
    return {}


def _read_buffer(model: Any, number: int) -> bytes:
    for at, buffer in enumerate(_tables(model, _MODEL_BUFFERS)):
        data = buffer.Offset(_slot(_BUFFER_DATA))
        if at == number and data:
            start = buffer.Vector(data)
            return bytes(model.Bytes[start : start + buffer.VectorLen(data)])
    return b""


def _tables(table: Any, field: int) -> Iterator[Any]:
    """The tables in a vector that is a field of another one."""
    offset = table.Offset(_slot(field))
    if offset:
        start = table.Vector(offset)
        for at in range(table.VectorLen(offset)):
            yield flatbuffers.table.Table(table.Bytes, table.Indirect(start + at * 4))


def _slot(field: int) -> int:
    """Where a vtable has the offset of a field."""
    return 4 + 2 * field


def _read_map(encoded: bytes) -> dict[str, bytes]:
    try:
        entries = flexbuffers.GetRoot(encoded).AsMap
        found = {key.AsKey: entries[key.AsKey] for key in entries.Keys}
        return {name: bytes(value.AsBlob if value.IsBlob else value.AsStringBytes) for name, value in found.items()}
    except Exception as error:  # the reader raises whatever comes of offsets that lead nowhere
        raise DataLoss(f"The signatures in the metadata of the TFLite model cannot be read: {error}") from error
