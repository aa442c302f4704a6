"""REST's way to ask: targets and JSON bodies out, values out of JSON answers.

Tensors are sent in the columnar format. It takes every signature, where the row format wants as many rows of every
output as of every input; and it has each name once, and not once for each row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import numpy as np
from google.protobuf import json_format

from serving_app.core.errors import Code, InvalidArgument
from serving_app.core.metadata import Metadata
from serving_app.core.routing import VersionStatus
from serving_app.core.servable import ModelSpec, ServableId
from serving_app.core.signatures import DEFAULT_SIGNATURE, Signature
from serving_app.core.states import PublicState
from serving_app.protocol import json_text, messages
from serving_app.protocol.calls import Outputs
from serving_app.protocol.json_excerpt import excerpt
from serving_app.protocol.signature_proto import decode_signature
from serving_app.remote.calls import Classes, UnfitAnswer
from serving_app.remote.json_values import (
    examples_text,
    input_text,
    read_classes,
    read_document,
    read_numbers,
    read_outputs,
)
from serving_app.remote.plans import Query

Array = np.ndarray[Any, Any]


def predict(
    spec: ModelSpec,
    signature_name: str,
    inputs: Outputs,
    outputs: tuple[str, ...] | None,
    signature: Signature | None,
) -> Query[Outputs]:
    """A Predict. Servers send all outputs by REST; those that are not wanted are dropped here."""
    if signature is not None and len(signature.inputs) == 1 and len(inputs) == 1:
        ((name, array),) = inputs.items()
        value = input_text(name, array)
    else:
        members = [json_text.string_text(name.encode()) + b":" + input_text(name, inputs[name]) for name in inputs]
        value = b"{" + b",".join(members) + b"}"
    specs = None if signature is None else signature.outputs

    def read(body: bytes) -> Outputs:
        found = read_outputs(body, specs)
        if outputs is None:
            return found
        missing = [name for name in outputs if name not in found]
        if missing:
            raise InvalidArgument(f"the answer has no output {missing[0]!r}; it has {', '.join(map(repr, found))}")
        return {name: found[name] for name in outputs}

    return Query(_target(spec) + ":predict", _body(signature_name, b"inputs", value), read)


def classify(spec: ModelSpec, signature_name: str, examples: Sequence[bytes]) -> Query[Classes]:
    body = _body(signature_name, b"examples", examples_text(examples))
    return Query(_target(spec) + ":classify", body, lambda answer: read_classes(read_document(answer, "results")))


def regress(spec: ModelSpec, signature_name: str, examples: Sequence[bytes]) -> Query[Array]:
    body = _body(signature_name, b"examples", examples_text(examples))
    return Query(_target(spec) + ":regress", body, lambda answer: read_numbers(read_document(answer, "results")))


def metadata(spec: ModelSpec) -> Query[Metadata]:
    return Query(_target(spec) + "/metadata", None, lambda body: _read_metadata(body, spec))


def status(spec: ModelSpec) -> Query[tuple[VersionStatus, ...]]:
    return Query(_target(spec), None, _read_statuses)


def _target(spec: ModelSpec) -> str:
    if not spec.name:
        raise InvalidArgument("the model's name is empty")
    target = f"/v1/models/{quote(spec.name, safe='')}"
    if spec.version is not None:
        return f"{target}/versions/{spec.version}"
    return target if spec.label is None else f"{target}/labels/{quote(spec.label, safe='')}"


def _body(signature_name: str, member: bytes, value: bytes) -> bytes:
    named = b""
    if signature_name and signature_name != DEFAULT_SIGNATURE:
        named = b'"signature_name":' + json_text.string_text(signature_name.encode()) + b","
    return b"{" + named + b'"' + member + b'":' + value + b"}"


def _read_metadata(body: bytes, spec: ModelSpec) -> Metadata:
    model, kinds = read_document(body, "model_spec"), read_document(body, "metadata")
    try:
        definitions = kinds["signature_def"]["signature_def"]
        servable = ServableId(str(model.get("name") or spec.name), int(model["version"]))
        return Metadata(servable, {name: _read_signature(definitions[name]) for name in sorted(definitions)})
    except (AttributeError, KeyError, TypeError, ValueError, json_format.ParseError) as error:
        raise UnfitAnswer(f"the answer tells no signatures ({error}): {excerpt(kinds)}") from error


def _read_signature(definition: Mapping[str, Any]) -> Signature:
    message = json_format.ParseDict(
        definition, messages.SignatureDef(), ignore_unknown_fields=True, descriptor_pool=messages.POOL
    )
    return decode_signature(message)


def _read_statuses(body: bytes) -> tuple[VersionStatus, ...]:
    listed = read_document(body, "model_version_status")
    try:
        return tuple([_read_status(each) for each in listed])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UnfitAnswer(f"the answer tells no states of versions ({error}): {excerpt(listed)}") from error


def _read_status(each: Mapping[str, Any]) -> VersionStatus:
    status = each.get("status") or {}
    return VersionStatus(
        int(each["version"]),
        PublicState[each.get("state", "UNKNOWN")],
        Code[status.get("error_code", "OK")],
        status.get("error_message", ""),
    )
