"""gRPC GetModelStatus and GetModelMetadata: request bytes to what is asked, answers to response bytes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from serving_app.core.errors import InvalidArgument
from serving_app.core.routing import VersionStatus
from serving_app.core.servable import ModelSpec
from serving_app.core.signatures import Signature
from serving_app.protocol import messages
from serving_app.protocol.model_spec_proto import decode_spec, encode_spec, parse

SIGNATURE_DEF = "signature_def"
"""The only kind of metadata there is."""


def decode_status_request(encoded: bytes) -> ModelSpec:
    """Whose versions a GetModelStatusRequest asks for; InvalidArgument if it does not say."""
    return decode_spec(parse(messages.GetModelStatusRequest, encoded))


def encode_statuses(statuses: Iterable[VersionStatus]) -> bytes:
    """A GetModelStatusResponse with these statuses in this order."""
    response = messages.GetModelStatusResponse()
    for status in statuses:
        entry = response.model_version_status.add(version=status.version, state=int(status.state))
        entry.status.SetInParent()  # also a version that is well has a status
        entry.status.error_code = int(status.code)
        entry.status.error_message = status.message
    encoded: bytes = response.SerializeToString()
    return encoded


def decode_metadata_request(encoded: bytes) -> ModelSpec:
    """Whose metadata a GetModelMetadataRequest asks for; InvalidArgument if it does not say, or asks for no or another
    kind of metadata than signatures. TensorFlow Serving checks all that before it looks for the servable."""
    request = parse(messages.GetModelMetadataRequest, encoded)
    spec = decode_spec(request)
    if not request.metadata_field:
        raise InvalidArgument("GetModelMetadataRequest must specify at least one metadata_field")
    for field in request.metadata_field:
        if field != SIGNATURE_DEF:
            raise InvalidArgument(f"Metadata field {field} is not supported")
    return spec


def encode_metadata(name: str, version: int, signatures: Mapping[str, Signature]) -> bytes:
    """A GetModelMetadataResponse with every signature of the servable `name`, `version`, as the model has them."""
    signature_defs = messages.SignatureDefMap()
    for key, signature in signatures.items():
        # MergeFromString does not create the entry of a signature that is empty; naming it does.
        signature_defs.signature_def[key].MergeFromString(signature.encoded)
    response = messages.GetModelMetadataResponse()
    encode_spec(response.model_spec, name, version)
    response.metadata[SIGNATURE_DEF].Pack(signature_defs)
    encoded: bytes = response.SerializeToString()
    return encoded
