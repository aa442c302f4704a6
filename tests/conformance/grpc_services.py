"""What else answers at the gRPC port: health, reflection, and what does not."""

from __future__ import annotations

from tests.conformance.rows import Grpc, Row, differing_grpc

_CHECK = "Health/Check"
_REFLECTION = "ServerReflection/ServerReflectionInfo"

ROWS: list[Row] = [
    # The services' names are short here, unlike their paths.
    Grpc(_CHECK, "", "status: SERVING"),
    Grpc(_CHECK, 'service: "PredictionService"', "status: SERVING"),
    Grpc(_CHECK, 'service: "ModelService"', "status: SERVING"),
    *[
        differing_grpc(
            "health-names", Grpc(_CHECK, f'service: "tensorflow.serving.{name}"', code="NOT_FOUND"),
            response="status: SERVING",
        )
        for name in ("PredictionService", "ModelService")
    ],
    Grpc(_CHECK, 'service: "nope"', code="NOT_FOUND"),
    Grpc("Health/Watch", "", "status: SERVING"),
    Grpc("Health/Watch", 'service: "PredictionService"', "status: SERVING"),
    Grpc("Health/Watch", 'service: "nope"', "status: SERVICE_UNKNOWN"),
    *[
        Grpc(_REFLECTION, 'list_services: ""', matches=f'name: "{service}"')
        for service in (
            "tensorflow.serving.PredictionService", "tensorflow.serving.ModelService",
            "grpc.reflection.v1alpha.ServerReflection",
        )
    ],
    Grpc(_REFLECTION, 'file_containing_symbol: "tensorflow.serving.PredictRequest"', matches="predict.proto"),
    Grpc(_REFLECTION, 'file_containing_symbol: "tensorflow.serving.PredictionService"', matches="MultiInference"),
    Grpc(_REFLECTION, 'file_by_filename: "tensorflow_serving/apis/model.proto"', matches="version_label"),
    Grpc(_REFLECTION, 'file_by_filename: "nope.proto"', matches="error_response { error_code: 5"),
    # There is a proto of it, and no implementation.
    Grpc("SessionService/SessionRun", "", code="UNIMPLEMENTED"),
    Grpc("NoSuchService/Predict", "", code="UNIMPLEMENTED"),
]
