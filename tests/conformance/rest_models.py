"""The state of models and what can be asked of them, over REST: protobuf's JSON (get_model_status_impl.cc and others).
"""

from __future__ import annotations

from tests.conformance.rows import Answer, Rest, Row, value

_AVAILABLE = '{"version": "%d", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}'


def _get(target: str, answer: Answer) -> Rest:
    return Rest("GET", f"/v1/models/{target}", answer)


_FLOATS = '{"dtype": "DT_FLOAT", "tensor_shape": {"dim": [{"size": "-1", "name": ""}], "unknown_rank": false}, '

_LINE = (
    '{"model_spec": {"name": "half_plus_two", "signature_name": "", "version": "%s"}, '
    '"metadata": {"signature_def": {"signature_def": {'
    '"serving_default": {"inputs": {"x": ' + _FLOATS + '"name": "serving_default_x:0"}}, '
    '"outputs": {"y": ' + _FLOATS + '"name": "StatefulPartitionedCall:0"}}, '
    '"method_name": "tensorflow/serving/predict", "defaults": {}}, '
    '"__saved_model_init_op": {"inputs": {}, "outputs": {"__saved_model_init_op": {"dtype": "DT_INVALID", '
    '"tensor_shape": {"dim": [], "unknown_rank": true}, "name": "NoOp"}}, "method_name": "", "defaults": {}}'
    "}}}}"
)

ROWS: list[Row] = [
    _get("half_plus_two", value(f'{{"model_version_status": [{_AVAILABLE % 2}, {_AVAILABLE % 1}]}}')),
    _get("half_plus_two/versions/1", value(f'{{"model_version_status": [{_AVAILABLE % 1}]}}')),
    _get("half_plus_two/versions/2", value(f'{{"model_version_status": [{_AVAILABLE % 2}]}}')),
    _get("half_plus_two/labels/stable", value(f'{{"model_version_status": [{_AVAILABLE % 2}, {_AVAILABLE % 1}]}}')),
    _get("forms", value(f'{{"model_version_status": [{_AVAILABLE % 1}]}}')),
    # Indented by one blank, as protobuf does it.
    _get("forms", Answer(200, matches=r'^{\n "model_version_status": \[\n  {\n   "version": "1",\n   "state": "AVAIL')),
    _get(
        "broken",
        Answer(
            200,
            matches=r'"version": "1",\s*"state": "(END|LOADING)",\s*"status": {\s*"error_code": "[A-Z_]+",'
            r'\s*"error_message": ".+"',
        ),
    ),
    _get("broken/versions/1", Answer(200, matches='"version": "1"')),
    _get("half_plus_two/versions/1/metadata", value(_LINE % 1)),
    _get("half_plus_two/metadata", value(_LINE % 2)),
    _get("half_plus_two/labels/canary/metadata", value(_LINE % 2)),
    _get("forms/metadata", Answer(200, matches=r'"method_name": "tensorflow/serving/classify"')),
    _get("forms/metadata", Answer(200, matches=r'"method_name": "tensorflow/serving/regress"')),
    _get("forms/metadata", Answer(200, matches=r'"method_name": "strange/method"')),
    _get("forms/metadata", Answer(200, matches=r'"defaults": {\s*"bias": {\s*"dtype": "DT_FLOAT"')),
    _get("forms/metadata", Answer(200, matches=r'"unknown_rank": true')),
    _get("forms/metadata", Answer(200, matches=r'"dtype": "DT_BFLOAT16"')),
    _get("forms/metadata", Answer(200, matches=r'"name": "examples:0"')),
]
