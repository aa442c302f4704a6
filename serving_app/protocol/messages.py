"""The classes of every message on the wire and in TensorFlow Serving's configuration files.

They come from `descriptors.binpb` (compiled from `protos/`), loaded into a pool of their own. protobuf's default pool
refuses two different files of one name, and `tensorflow` and `tensorflow-serving-api` put their files there; in a
private pool ours need neither of them and live with both, whatever is imported first. The price: a message of theirs
cannot be assigned to a field of ours; copy it through its bytes, which are the same.

Where protobuf looks a type up by name, give it this pool:

    text_format.Parse(text, messages.ModelServerConfig(), descriptor_pool=messages.POOL)
    json_format.MessageToDict(metadata, descriptor_pool=messages.POOL)

Packing into and unpacking from `Any` need nothing. Type checkers see these classes as Any, because they exist at run
time only; tests compare every one of them with TensorFlow's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory


def _load_pool() -> descriptor_pool.DescriptorPool:
    pool = descriptor_pool.DescriptorPool()
    encoded = Path(__file__).with_name("descriptors.binpb").read_bytes()
    for file in descriptor_pb2.FileDescriptorSet.FromString(encoded).file:  # dependencies come first
        pool.AddSerializedFile(file.SerializeToString())
    return pool


POOL = _load_pool()
"""Knows every file under `protos/` by its path and every message and service by its full name."""


def message_class(full_name: str) -> Any:
    """The class of a message, such as `tensorflow.serving.PredictRequest`; KeyError if there is none."""
    return message_factory.GetMessageClass(POOL.FindMessageTypeByName(full_name))


def _serving(name: str) -> Any:
    return message_class(f"tensorflow.serving.{name}")


def _tensorflow(name: str) -> Any:
    return message_class(f"tensorflow.{name}")


# Requests, responses and what they consist of (tensorflow_serving/apis).
ModelSpec = _serving("ModelSpec")
Input = _serving("Input")
ExampleList = _serving("ExampleList")
ExampleListWithContext = _serving("ExampleListWithContext")
Class = _serving("Class")
Classifications = _serving("Classifications")
ClassificationResult = _serving("ClassificationResult")
ClassificationRequest = _serving("ClassificationRequest")
ClassificationResponse = _serving("ClassificationResponse")
Regression = _serving("Regression")
RegressionResult = _serving("RegressionResult")
RegressionRequest = _serving("RegressionRequest")
RegressionResponse = _serving("RegressionResponse")
PredictRequest = _serving("PredictRequest")
PredictStreamedOptions = _serving("PredictStreamedOptions")
PredictResponse = _serving("PredictResponse")
InferenceTask = _serving("InferenceTask")
InferenceResult = _serving("InferenceResult")
MultiInferenceRequest = _serving("MultiInferenceRequest")
MultiInferenceResponse = _serving("MultiInferenceResponse")
SignatureDefMap = _serving("SignatureDefMap")
GetModelMetadataRequest = _serving("GetModelMetadataRequest")
GetModelMetadataResponse = _serving("GetModelMetadataResponse")
StatusProto = _serving("StatusProto")
GetModelStatusRequest = _serving("GetModelStatusRequest")
ModelVersionStatus = _serving("ModelVersionStatus")
GetModelStatusResponse = _serving("GetModelStatusResponse")
ReloadConfigRequest = _serving("ReloadConfigRequest")
ReloadConfigResponse = _serving("ReloadConfigResponse")
Metric = _serving("Metric")
SessionRunRequest = _serving("SessionRunRequest")
SessionRunResponse = _serving("SessionRunResponse")
LogMetadata = _serving("LogMetadata")
ClassifyLog = _serving("ClassifyLog")
RegressLog = _serving("RegressLog")
PredictLog = _serving("PredictLog")
PredictStreamedLog = _serving("PredictStreamedLog")
MultiInferenceLog = _serving("MultiInferenceLog")
SessionRunLog = _serving("SessionRunLog")
PredictionLog = _serving("PredictionLog")

# Requests about examples, with the examples left as bytes (protos/serving_app).
SerializedInput = message_class("serving_app.SerializedInput")
SerializedExampleRequest = message_class("serving_app.SerializedExampleRequest")
SerializedMultiInferenceRequest = message_class("serving_app.SerializedMultiInferenceRequest")

# Configuration (tensorflow_serving/config, servables, sources, resources).
ModelConfig = _serving("ModelConfig")
ModelConfigList = _serving("ModelConfigList")
ModelServerConfig = _serving("ModelServerConfig")
FileSystemStoragePathSourceConfig = _serving("FileSystemStoragePathSourceConfig")
PerTaskSamplingConfig = _serving("PerTaskSamplingConfig")
SamplingConfig = _serving("SamplingConfig")
LoggingConfig = _serving("LoggingConfig")
LogCollectorConfig = _serving("LogCollectorConfig")
PrometheusConfig = _serving("PrometheusConfig")
MonitoringConfig = _serving("MonitoringConfig")
PlatformConfig = _serving("PlatformConfig")
PlatformConfigMap = _serving("PlatformConfigMap")
SSLConfig = _serving("SSLConfig")
ModelWarmupOptions = _serving("ModelWarmupOptions")
SessionBundleConfig = _serving("SessionBundleConfig")
BatchingParameters = _serving("BatchingParameters")
SavedModelBundleSourceAdapterConfig = _serving("SavedModelBundleSourceAdapterConfig")
SessionOverrides = _serving("SessionOverrides")
SavedModelConfig = _serving("SavedModelConfig")
RemoteOpRemapConfig = _serving("tools.RemoteOpRemapConfig")
ThreadPoolFactoryConfig = _serving("ThreadPoolFactoryConfig")
TfrtSavedModelConfig = _serving("TfrtSavedModelConfig")
TfrtSavedModelSourceAdapterConfig = _serving("TfrtSavedModelSourceAdapterConfig")
StaticStoragePathSourceConfig = _serving("StaticStoragePathSourceConfig")
HashmapSourceAdapterConfig = _serving("HashmapSourceAdapterConfig")
Resource = _serving("Resource")
ResourceAllocation = _serving("ResourceAllocation")

# TensorFlow's values, and what describes a model.
TensorProto = _tensorflow("TensorProto")
TensorShapeProto = _tensorflow("TensorShapeProto")
NamedTensorProto = _tensorflow("NamedTensorProto")
Example = _tensorflow("Example")
Features = _tensorflow("Features")
Feature = _tensorflow("Feature")
TensorInfo = _tensorflow("TensorInfo")
SignatureDef = _tensorflow("SignatureDef")
MetaGraphDef = _tensorflow("MetaGraphDef")
SavedModel = _tensorflow("SavedModel")

# Sessions.
ConfigProto = _tensorflow("ConfigProto")
GPUOptions = _tensorflow("GPUOptions")
RunOptions = _tensorflow("RunOptions")
RunMetadata = _tensorflow("RunMetadata")

# The profiler's service.
ProfileRequest = _tensorflow("ProfileRequest")
ProfileResponse = _tensorflow("ProfileResponse")
TerminateRequest = _tensorflow("TerminateRequest")
TerminateResponse = _tensorflow("TerminateResponse")
MonitorRequest = _tensorflow("MonitorRequest")
MonitorResponse = _tensorflow("MonitorResponse")

# gRPC's health service.
HealthCheckRequest = message_class("grpc.health.v1.HealthCheckRequest")
HealthCheckResponse = message_class("grpc.health.v1.HealthCheckResponse")

# protobuf's own.
AnyMessage = message_class("google.protobuf.Any")
