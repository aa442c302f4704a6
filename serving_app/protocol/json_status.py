"""The JSON answers about models: the states of their versions, and the signatures of one version.

Both are what protobuf's JSON printer makes of the messages that gRPC sends: field names as in the .proto files, 64-bit
integers as strings, enums by name, default values written out, one blank of indentation per level.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from google.protobuf import json_format

from serving_app.core.routing import VersionStatus
from serving_app.core.signatures import Signature
from serving_app.protocol import messages


def encode_statuses(statuses: Iterable[VersionStatus]) -> bytes:
    """The answer to `GET /v1/models/NAME[/versions/VERSION]`, in the order of `statuses`."""
    return _text({"model_version_status": [_status(status) for status in statuses]})


def _status(status: VersionStatus) -> dict[str, Any]:
    return {
        "version": str(status.version),
        "state": status.state.name,
        "status": {"error_code": status.code.name, "error_message": status.message},
    }


def encode_metadata(name: str, version: int, signatures: Mapping[str, Signature]) -> bytes:
    """The answer to `GET /v1/models/NAME[/…]/metadata`.

    The lines around the two objects are those of TensorFlow Serving, which joins two printed messages by hand
    (http_rest_api_handler.cc); so is the doubled `signature_def`, once the kind of metadata and once a field.
    """
    spec = _text({"name": name, "signature_name": "", "version": str(version)})
    definitions = _text({"signature_def": {key: _definition(signature) for key, signature in signatures.items()}})
    return b'{\n"model_spec":' + spec + b',\n"metadata": {"signature_def": ' + definitions + b"}\n}\n"


def _definition(signature: Signature) -> Any:
    """A SignatureDef as protobuf's JSON, from the bytes that the model has: they hold more than `Signature` shows."""
    return json_format.MessageToDict(
        messages.SignatureDef.FromString(signature.encoded),
        preserving_proto_field_name=True,
        always_print_fields_with_no_presence=True,
        descriptor_pool=messages.POOL,
    )


def _text(value: Any) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode("utf-8", "replace")
