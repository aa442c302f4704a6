"""JSON answers about models."""

from __future__ import annotations

import json
from typing import Any

from google.protobuf import json_format

from serving_app.core.errors import Code
from serving_app.core.routing import VersionStatus
from serving_app.core.signatures import DType, Signature, TensorSpec
from serving_app.core.states import PublicState
from serving_app.protocol import messages, status_proto
from serving_app.protocol.json_status import encode_metadata, encode_statuses
from serving_app.protocol.signature_proto import decode_signature, make_signature

STATUSES = (
    VersionStatus(2**62, PublicState.AVAILABLE),
    VersionStatus(3, PublicState.END, Code.NOT_FOUND, 'no "saved_model.pb" in été'),
    VersionStatus(2, PublicState.UNKNOWN),
)


def test_statuses_have_the_text_of_protobuf():
    """Versions are strings, states and codes are names, defaults are written, and levels are indented by one blank."""
    assert encode_statuses(STATUSES[1:2]).decode() == (
        "{\n"
        ' "model_version_status": [\n'
        "  {\n"
        '   "version": "3",\n'
        '   "state": "END",\n'
        '   "status": {\n'
        '    "error_code": "NOT_FOUND",\n'
        '    "error_message": "no \\"saved_model.pb\\" in été"\n'
        "   }\n"
        "  }\n"
        " ]\n"
        "}\n"
    )


def test_statuses_say_what_the_proto_says():
    """The JSON answer is the gRPC answer, printed; also for no version, and for every state and code."""
    every_state = tuple(VersionStatus(1, state) for state in PublicState)
    every_code = tuple(VersionStatus(1, PublicState.END, code, code.name.lower()) for code in Code)
    for statuses in (STATUSES, every_state, every_code, ()):
        response = messages.GetModelStatusResponse.FromString(status_proto.encode_statuses(statuses))
        assert json.loads(encode_statuses(statuses)) == printed(response)


def printed(message: Any) -> Any:
    return json_format.MessageToDict(
        message,
        preserving_proto_field_name=True,
        always_print_fields_with_no_presence=True,
        descriptor_pool=messages.POOL,
    )


def test_a_message_that_is_no_text_is_still_an_answer():
    """A path with bytes that are not UTF-8 in an error message does not make the status unreadable."""
    answer = json.loads(encode_statuses([VersionStatus(1, PublicState.END, Code.NOT_FOUND, "bad \udcff")]))
    assert answer["model_version_status"][0]["status"]["error_message"] == "bad ?"


HALF_PLUS_TWO = make_signature(
    {"x": TensorSpec("x:0", DType.FLOAT, (-1, 3))}, {"y": TensorSpec("y:0", DType.STRING, None)}
)


def test_metadata_is_laid_out_as_tensorflow_serving_does():
    """Two printed messages are joined by hand-written lines, and the signatures sit under a doubled key."""
    assert encode_metadata("m", 123, {"s": HALF_PLUS_TWO}).decode().startswith(
        '{\n"model_spec":{\n "name": "m",\n "signature_name": "",\n "version": "123"\n}\n,\n'
        '"metadata": {"signature_def": {\n "signature_def": {\n  "s": {\n   "inputs": {\n    "x": {\n'
    )
    assert encode_metadata("m", 123, {}).decode() == (
        '{\n"model_spec":{\n "name": "m",\n "signature_name": "",\n "version": "123"\n}\n,\n'
        '"metadata": {"signature_def": {\n "signature_def": {}\n}\n}\n}\n'
    )


def test_metadata_writes_out_every_default():
    """Sizes are strings, types are names, and what has its default value appears, `defaults` included."""
    assert json.loads(encode_metadata("m", 2**62, {"serving_default": HALF_PLUS_TWO})) == {
        "model_spec": {"name": "m", "signature_name": "", "version": str(2**62)},
        "metadata": {
            "signature_def": {
                "signature_def": {
                    "serving_default": {
                        "inputs": {
                            "x": {
                                "dtype": "DT_FLOAT",
                                "tensor_shape": {
                                    "dim": [{"size": "-1", "name": ""}, {"size": "3", "name": ""}],
                                    "unknown_rank": False,
                                },
                                "name": "x:0",
                            }
                        },
                        "outputs": {
                            "y": {
                                "dtype": "DT_STRING",
                                "tensor_shape": {"dim": [], "unknown_rank": True},
                                "name": "y:0",
                            }
                        },
                        "method_name": "tensorflow/serving/predict",
                        "defaults": {},
                    }
                }
            }
        },
    }


def test_metadata_shows_what_a_signature_cannot():
    """Sparse inputs, default values and empty signatures come from the model's own bytes."""
    message = messages.SignatureDef()
    message.inputs["sparse"].coo_sparse.values_tensor_name = "v:0"
    message.defaults["x"].dtype = DType.INT64
    message.defaults["x"].int64_val.append(2**60)
    answer = json.loads(encode_metadata("m", 1, {"odd": decode_signature(message), "empty": Signature({}, {})}))
    definitions = answer["metadata"]["signature_def"]["signature_def"]
    assert definitions["odd"]["inputs"]["sparse"] == {
        "dtype": "DT_INVALID",
        "coo_sparse": {"values_tensor_name": "v:0", "indices_tensor_name": "", "dense_shape_tensor_name": ""},
    }
    assert definitions["odd"]["defaults"]["x"]["int64_val"] == [str(2**60)]
    assert definitions["empty"] == {"inputs": {}, "outputs": {}, "method_name": "", "defaults": {}}
