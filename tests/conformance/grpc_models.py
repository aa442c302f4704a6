"""GetModelStatus, GetModelMetadata and HandleReloadConfigRequest over gRPC (server_core.cc and others)."""

from __future__ import annotations

from tests.conformance.models import LABELS_TEXT, PLATFORM
from tests.conformance.rows import Grpc, Row, differing_grpc, refused

_STATUS = "ModelService/GetModelStatus"
_METADATA = "PredictionService/GetModelMetadata"
_RELOAD = "ModelService/HandleReloadConfigRequest"


def _available(*versions: int) -> str:
    return "".join(
        f'model_version_status {{ version: {version} state: AVAILABLE status {{ }} }} ' for version in versions
    )


def _spec(name: str, more: str = "") -> str:
    return f'model_spec {{ name: "{name}" {more} }} '


_STATES: list[Row] = [
    Grpc(_STATUS, _spec("half_plus_two"), _available(2, 1)),
    Grpc(_STATUS, _spec("half_plus_two", "version { value: 1 }"), _available(1)),
    Grpc(_STATUS, _spec("half_plus_two", "version { value: 2 }"), _available(2)),
    # Labels and signatures are not looked at.
    Grpc(_STATUS, _spec("half_plus_two", 'version_label: "stable"'), _available(2, 1)),
    Grpc(_STATUS, _spec("half_plus_two", 'version_label: "nope"'), _available(2, 1)),
    Grpc(_STATUS, _spec("half_plus_two", 'signature_name: "nope"'), _available(2, 1)),
    Grpc(_STATUS, _spec("forms"), _available(1)),
    Grpc(_STATUS, _spec("broken"), matches=r"version: 1 state: (END|LOADING) status \{ error_code: [A-Z_]+ error_mess"),
    *[
        refused(_STATUS, request, code, message)
        for request, code, message in [
            ("", "INVALID_ARGUMENT", "Missing ModelSpec"),
            ("model_spec { }", "NOT_FOUND", "Could not find any versions of model "),
            (_spec("nope"), "NOT_FOUND", "Could not find any versions of model nope"),
            (_spec("nope", 'version_label: "stable"'), "NOT_FOUND", "Could not find any versions of model nope"),
            (_spec("nope", "version { value: 1 }"), "NOT_FOUND", "Could not find version 1 of model nope"),
            (_spec("", "version { value: 1 }"), "NOT_FOUND", "Could not find version 1 of model "),
            (_spec("half_plus_two", "version { value: 9 }"), "NOT_FOUND",
             "Could not find version 9 of model half_plus_two"),
            (_spec("half_plus_two", "version { }"), "NOT_FOUND", "Could not find version 0 of model half_plus_two"),
        ]
    ],
]

_FIELD = 'metadata_field: "signature_def" '
_NO_FIELD = "GetModelMetadataRequest must specify at least one metadata_field"

_SIGNATURES: list[Row] = [
    Grpc(
        _METADATA, _spec("half_plus_two", more) + _FIELD,
        matches=rf'^model_spec {{ name: "half_plus_two" version {{ value: {version} }} }} metadata {{ '
        r'key: "signature_def" value { \[type.googleapis.com/tensorflow.serving.SignatureDefMap\] { signature_def { ',
    )
    for more, version in [
        ("", 2), ("version { value: 1 }", 1), ('version_label: "stable"', 1), ('version_label: "canary"', 2),
        ('signature_name: "nope"', 2),
    ]
]
_SIGNATURES += [
    Grpc(_METADATA, _spec("forms") + _FIELD, matches=pattern)
    for pattern in [
        'key: "serving_default" value { inputs { key: "x" value { name: "x:0" dtype: DT_FLOAT tensor_shape { dim { size'
        ": -1 } } } }",
        'method_name: "tensorflow/serving/classify"',
        'defaults { key: "bias" value { dtype: DT_FLOAT tensor_shape { } float_val: -1',
        "dtype: DT_BFLOAT16 tensor_shape { unknown_rank: true }",
    ]
]
_SIGNATURES += [
    refused(_METADATA, request, code, message)
    for request, code, message in [
        ("", "INVALID_ARGUMENT", "Missing ModelSpec"),
        (_FIELD, "INVALID_ARGUMENT", "Missing ModelSpec"),
        (_spec("half_plus_two"), "INVALID_ARGUMENT", _NO_FIELD),
        # What is asked for is looked at before the servable is.
        (_spec("nope"), "INVALID_ARGUMENT", _NO_FIELD),
        (_spec("nope") + 'metadata_field: "graph" ', "INVALID_ARGUMENT", "Metadata field graph is not supported"),
        (_spec("half_plus_two") + 'metadata_field: "" ', "INVALID_ARGUMENT", "Metadata field  is not supported"),
        (_spec("half_plus_two") + _FIELD + 'metadata_field: "x" ', "INVALID_ARGUMENT",
         "Metadata field x is not supported"),
        ("model_spec { } " + _FIELD, "INVALID_ARGUMENT", "ModelSpec has no name specified."),
        (_spec("nope") + _FIELD, "NOT_FOUND", "Servable not found for request: Latest(nope)"),
        (_spec("broken") + _FIELD, "NOT_FOUND", "Servable not found for request: Latest(broken)"),
        (_spec("half_plus_two", "version { value: 9 }") + _FIELD, "NOT_FOUND",
         "Servable not found for request: Specific(half_plus_two, 9)"),
        (_spec("half_plus_two", 'version_label: "nope"') + _FIELD, "INVALID_ARGUMENT",
         "Unrecognized servable version label: nope"),
    ]
]

# --- reloads ---------------------------------------------------------------------------------------------------------



def _models(*entries: str) -> str:
    return "config { model_config_list { " + "".join(f"config {{ {entry} }} " for entry in entries) + "} } "


def _entry(name: str, more: str = PLATFORM, path: str = "") -> str:
    return f'name: "{name}" base_path: "{path or "%MODELS%/" + name}" {more} '


def _lines(more: str, *others: str) -> str:
    """The suite's models, with half_plus_two in another form."""
    all_versions = "model_version_policy { all { } } "
    return _models(_entry("half_plus_two", PLATFORM + all_versions + more), *(others or (_entry("forms"), _BROKEN)))


_BROKEN = _entry("broken")
_STOCK = _lines(LABELS_TEXT)

FIRST: list[Row] = [
    Grpc(_RELOAD, _lines(LABELS_TEXT, _entry("forms")), "status { }"),
    # What was loaded stays, and so does the new list, although the call fails.
    Grpc(_RELOAD, _STOCK, code="UNKNOWN",
         matches=r"^1 model\(s\) did not become available: {{{name: broken version: 1} due to error: [A-Z_]+: .*}, }"),
]
"""What is asked before all else, so that there is a model that cannot be loaded."""
_NOT_A_LIST = (
    "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList is currently supported"
)
_NEITHER = (
    "Illegal setting neither ModelServerConfig::model_type (deprecated) nor ModelServerConfig::model_platform, "
    "model name is {}"
)
_UNAVAILABLE = (
    "Request to assign label to version {} of model half_plus_two, which is not currently available for inference"
)

_RELOADS: list[Row] = [
    *[
        refused(_RELOAD, request, code, message)
        for request, code, message in [
            ("", "INVALID_ARGUMENT", _NOT_A_LIST),
            ("config { }", "INVALID_ARGUMENT", _NOT_A_LIST),
            ("config { custom_model_config { } }", "INVALID_ARGUMENT", _NOT_A_LIST),
            (_models(_entry("forms"), _entry("a"), _entry("forms")), "INVALID_ARGUMENT",
             "Illegal to list model forms multiple times in config list"),
            # Twice the same name is found before paths and platforms are looked at.
            (_models(_entry("a", path="relative"), _entry("a", "")), "INVALID_ARGUMENT",
             "Illegal to list model a multiple times in config list"),
            (_models(_entry("a", path="relative/path")), "INVALID_ARGUMENT",
             "Expected model a to have an absolute path or URI; got base_path()=relative/path"),
            (_models(f'name: "a" {PLATFORM}'), "INVALID_ARGUMENT",
             "Expected model a to have an absolute path or URI; got base_path()="),
            (_models(_entry("forms", ""), _entry("a", path="relative")), "INVALID_ARGUMENT",
             "Expected model a to have an absolute path or URI; got base_path()=relative"),
            (_models(_entry("forms", "")), "INVALID_ARGUMENT", _NEITHER.format("forms")),
            (_models(_entry("forms", "model_type: TENSORFLOW " + PLATFORM)), "INVALID_ARGUMENT",
             "Illegal setting both ModelServerConfig::model_type (deprecated) and ModelServerConfig::model_platform, "
             "model name is forms"),
            (_models(_entry("forms", "model_type: OTHER ")), "INVALID_ARGUMENT",
             "ModelServerConfig::model_type choice 2 not supported."),
            (_lines('version_labels { key: "stable" value: 9 } '), "FAILED_PRECONDITION", _UNAVAILABLE.format(9)),
        ]
    ],
    differing_grpc(
        "negative-labels",
        refused(_RELOAD, _lines('version_labels { key: "canary" value: -1 } '), "FAILED_PRECONDITION",
                _UNAVAILABLE.format(-1)),
        code="INVALID_ARGUMENT", matches="^Model half_plus_two has 1 problem:\n  labels.canary: ",
    ),
    # Nothing of what was refused is in force; the same list again changes nothing, and its metrics have not grown.
    Grpc(_RELOAD, _STOCK, "status { }"),
    Grpc(_RELOAD, _STOCK + 'metric_names: "/nope" metric_names: "b" metric_names: "/nope"',
         'status { } metric { name: "/nope" int64_value_increase: 0 } metric { name: "b" int64_value_increase: 0 }'),
    Grpc(_STATUS, _spec("half_plus_two"), _available(2, 1)),
    Grpc("PredictionService/GetModelMetadata", _spec("half_plus_two", 'version_label: "stable"') + _FIELD,
         matches="value: 1 "),
    # A label that is moved, and one that goes.
    Grpc(_RELOAD, _lines('version_labels { key: "stable" value: 2 } '), "status { }"),
    Grpc(_METADATA, _spec("half_plus_two", 'version_label: "stable"') + _FIELD, matches="value: 2 "),
    refused(_METADATA, _spec("half_plus_two", 'version_label: "canary"') + _FIELD, "INVALID_ARGUMENT",
            "Unrecognized servable version label: canary"),
    Grpc(_RELOAD, _STOCK, "status { }"),
    Grpc(_METADATA, _spec("half_plus_two", 'version_label: "canary"') + _FIELD, matches="value: 2 "),
    differing_grpc(
        "logging",
        refused(_RELOAD, _lines(LABELS_TEXT + "logging_config { } "), "INVALID_ARGUMENT",
                "No request-logger-creator provided."),
        code="INVALID_ARGUMENT", matches="^No request-logger-creator provided. Model half_plus_two has a log",
    ),
]

ROWS: list[Row] = [*_STATES, *_SIGNATURES, *_RELOADS]
