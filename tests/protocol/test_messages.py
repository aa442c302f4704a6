"""The message classes: where they come from, and with whom they live."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from google.protobuf import json_format, text_format

from serving_app.protocol import compile_protos, messages

WORLDS = {
    "ours": "import serving_app.protocol.messages as ours",
    "tensorflow": "import tensorflow",
    "serving": "from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc, model_management_pb2",
}
USE_ALL = """
from tensorflow_serving.apis import predict_pb2
import tensorflow as tf
import serving_app.protocol.messages as ours
theirs = predict_pb2.PredictRequest()
theirs.model_spec.version.value = 3
theirs.inputs["x"].CopyFrom(tf.make_tensor_proto([1.5]))
request = ours.PredictRequest.FromString(theirs.SerializeToString())
assert request.inputs["x"].float_val == [1.5]
assert type(request.inputs["x"]) is ours.TensorProto
assert predict_pb2.PredictRequest.FromString(request.SerializeToString()) == theirs
"""


def run_python(*lines: str) -> str:
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{lines}: {done.stderr}"
    return done.stdout


ORDERS = (("ours", "tensorflow", "serving"), ("tensorflow", "serving", "ours"))
"""Ours first, and ours last: tensorflow-serving-api imports tensorflow before it brings any message of its own."""


def test_lives_with_tensorflow_in_any_order() -> None:
    """Ours, tensorflow's and tensorflow-serving-api's messages work in one process, whichever comes first."""
    programs = [[*(WORLDS[world] for world in order), USE_ALL] for order in ORDERS]
    with ThreadPoolExecutor(max_workers=2) as pool:  # an import of TensorFlow takes seconds
        list(pool.map(lambda lines: run_python(*lines), programs))


def test_needs_neither() -> None:
    """Importing the messages imports no TensorFlow, no Ray and no gRPC, and puts no file into the default pool."""
    out = run_python(
        "import sys, serving_app.protocol.messages as ours",
        "from google.protobuf import descriptor_pool",
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))",
        "try:",
        "    descriptor_pool.Default().FindFileByName('tensorflow_serving/apis/model.proto')",
        "except KeyError:",
        "    print('absent')",
    )
    modules, default_pool = out.splitlines()
    assert not {"tensorflow", "tensorflow_serving", "ray", "grpc", "numpy"} & set(modules.split())
    assert default_pool == "absent"


def test_the_whole_package_stays_light() -> None:
    """No module of serving_app.protocol imports TensorFlow, Ray or gRPC."""
    out = run_python(
        "import importlib, pkgutil, sys, serving_app.protocol as package",
        "for module in pkgutil.iter_modules(package.__path__, 'serving_app.protocol.'):",
        "    importlib.import_module(module.name)",
        "print(*sys.modules)",
    )
    modules = set(out.split())
    assert "serving_app.protocol.predict_proto" in modules
    assert not {"tensorflow", "tensorflow_serving", "ray", "grpc"} & modules


def test_committed_set_is_what_protos_compile_to() -> None:
    """descriptors.binpb is up to date, and compiling is deterministic; if not, run the module compile_protos."""
    assert compile_protos.compile_protos(compile_protos.PROTOS) == compile_protos.DESCRIPTORS.read_bytes()


def test_a_broken_proto_is_reported(tmp_path) -> None:
    """A file that does not compile ends the command with the compiler's status."""
    (tmp_path / "broken.proto").write_text("message {")
    with pytest.raises(SystemExit):
        compile_protos.compile_protos(tmp_path)


def test_any_carries_the_stock_type_url() -> None:
    """A SignatureDefMap packed in an Any has TensorFlow Serving's type URL and comes out again."""
    signatures = messages.SignatureDefMap()
    signatures.signature_def["serving_default"].method_name = "tensorflow/serving/predict"
    metadata = messages.GetModelMetadataResponse()
    metadata.metadata["signature_def"].Pack(signatures)
    packed = metadata.metadata["signature_def"]
    assert packed.type_url == "type.googleapis.com/tensorflow.serving.SignatureDefMap"
    unpacked = messages.SignatureDefMap()
    assert packed.Unpack(unpacked)
    assert unpacked == signatures


def test_text_format_with_any() -> None:
    """A platform config in text form is read with the private pool, the packed message and wrappers included."""
    text = """
        platform_configs { key: "tensorflow" value { source_adapter_config {
          [type.googleapis.com/tensorflow.serving.SavedModelBundleSourceAdapterConfig] {
            legacy_config { batching_parameters { max_batch_size { value: 128 } }
                            session_config { gpu_options { allow_growth: true } } } } } } }
    """
    parsed = text_format.Parse(text, messages.PlatformConfigMap(), descriptor_pool=messages.POOL)
    adapter = messages.SavedModelBundleSourceAdapterConfig()
    assert parsed.platform_configs["tensorflow"].source_adapter_config.Unpack(adapter)
    assert adapter.legacy_config.batching_parameters.max_batch_size.value == 128
    assert adapter.legacy_config.session_config.gpu_options.allow_growth
    printed = text_format.MessageToString(parsed, descriptor_pool=messages.POOL)
    assert text_format.Parse(printed, messages.PlatformConfigMap(), descriptor_pool=messages.POOL) == parsed


def test_json_format_with_any() -> None:
    """A message with an Any goes to JSON and back with the private pool, with TensorFlow Serving's JSON names."""
    response = messages.GetModelMetadataResponse()
    response.model_spec.version.value = 7
    signatures = messages.SignatureDefMap()
    signatures.signature_def["serving_default"].inputs["x"].name = "x:0"
    response.metadata["signature_def"].Pack(signatures)
    document = json_format.MessageToDict(response, descriptor_pool=messages.POOL)
    assert document["modelSpec"] == {"version": "7"}
    assert document["metadata"]["signature_def"]["signatureDef"]["serving_default"]["inputs"]["x"] == {"name": "x:0"}
    again = json_format.ParseDict(document, messages.GetModelMetadataResponse(), descriptor_pool=messages.POOL)
    assert again == response

    status = messages.GetModelStatusResponse()
    status.model_version_status.add(version=1, state="AVAILABLE").status.error_message = "fine"
    assert json_format.MessageToDict(status) == {
        "model_version_status": [{"version": "1", "state": "AVAILABLE", "status": {"error_message": "fine"}}]
    }


def test_what_an_outline_leaves_out_survives() -> None:
    """The graph that our MetaGraphDef does not know travels through it unchanged."""
    from tensorflow.core.protobuf import meta_graph_pb2

    theirs = meta_graph_pb2.MetaGraphDef()
    theirs.meta_info_def.tags.append("serve")
    theirs.graph_def.node.add(name="x", op="Placeholder")
    theirs.signature_def["serving_default"].method_name = "tensorflow/serving/predict"
    ours = messages.MetaGraphDef.FromString(theirs.SerializeToString())
    assert ours.signature_def["serving_default"].method_name == "tensorflow/serving/predict"
    assert meta_graph_pb2.MetaGraphDef.FromString(ours.SerializeToString()) == theirs


def test_unknown_name() -> None:
    """A message that does not exist is a KeyError."""
    with pytest.raises(KeyError, match="NoSuchMessage"):
        messages.message_class("tensorflow.serving.NoSuchMessage")
