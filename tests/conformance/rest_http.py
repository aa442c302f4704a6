"""What HTTP adds: compressed bodies, OPTIONS, the CORS headers and the page of metrics."""

from __future__ import annotations

import gzip

from tests.conformance.rows import Answer, Rest, Row, Setting, bad, differing, under, value

_PREDICT = "/v1/models/half_plus_two:predict"
_BODY = b'{"instances": [1.0, 2.0]}'
_RIGHT = value('{"predictions": [3.5, 4.0]}')
_EMPTY = bad("JSON Parse error: The document is empty")
_METRICS = "/monitoring/prometheus/metrics"


def _compressed(answer: Answer, body: bytes, encoding: str = "gzip") -> Rest:
    return Rest("POST", _PREDICT, answer, body, {"Content-Encoding": encoding})


_GZIP: list[Row] = [
    _compressed(_RIGHT, gzip.compress(_BODY)),
    _compressed(_RIGHT, gzip.compress(_BODY), "x-gzip"),
    _compressed(_RIGHT, gzip.compress(_BODY), "identity, gzip"),
    _compressed(_RIGHT, gzip.compress(_BODY, compresslevel=0)),
    _compressed(_RIGHT, gzip.compress(_BODY + b" " * 1_000_000)),
    _compressed(_RIGHT, _BODY, "identity"),
    _compressed(_RIGHT, _BODY, "deflate"),
    # What cannot be unpacked is an empty body.
    _compressed(_EMPTY, _BODY),
    _compressed(_EMPTY, b""),
    _compressed(_EMPTY, b"\x1f\x8b"),
    _compressed(_EMPTY, gzip.compress(_BODY)[:-9]),
    _compressed(_EMPTY, gzip.compress(b" " * (100 << 20) + _BODY)),
    Rest("POST", "/v1/models/nope:classify", _EMPTY, b"no gzip", {"Content-Encoding": "gzip"}),
    # Answers are not compressed, whatever the client takes.
    Rest("POST", _PREDICT, Answer(200, value='{"predictions": [3.5, 4.0]}', headers={"Content-Encoding": None}), _BODY,
         {"Accept-Encoding": "gzip"}),
]


def _options(target: str, origin: str | None, answer: Answer) -> Rest:
    return Rest("OPTIONS", target, answer, headers={"Origin": origin} if origin is not None else {})


_OPTIONS: list[Row] = [
    _options(_PREDICT, "http://example.com", Answer(200, b"")),
    _options(_PREDICT, "https://example.com:8080", Answer(200, b"")),
    _options("/v1/models/nope", "https://example.com", Answer(200, b"")),
    _options("/v1/anything?x=1", "https://example.com", Answer(200, b"")),
    _options("/V1/models", "see http://example.com", Answer(200, b"")),
    _options(_PREDICT, None, Answer(400, b"")),
    _options(_PREDICT, "", Answer(400, b"")),
    _options(_PREDICT, "null", Answer(400, b"")),
    _options(_PREDICT, "example.com", Answer(400, b"")),
    _options("/v2", "http://example.com", Answer(404)),
]

_NO_CORS: dict[str, str | None] = dict.fromkeys(
    ("Access-Control-Allow-Origin", "Access-Control-Allow-Methods", "Access-Control-Allow-Headers")
)
_CORS: dict[str, str | None] = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "POST, GET",
    "Access-Control-Allow-Headers": "Content-Type",
}


def _cross_origin(cors: dict[str, str | None]) -> list[Row]:
    origin = {"Origin": "https://example.com"}
    return [
        Rest("POST", _PREDICT, Answer(200, headers=cors), _BODY, origin),
        Rest("POST", _PREDICT, Answer(200, headers=cors), _BODY),
        Rest("POST", _PREDICT, Answer(400, headers=cors), b"{"),
        Rest("GET", "/v1/models/half_plus_two", Answer(200, headers=cors), headers=origin),
        Rest("GET", "/v1/models/nope", Answer(404, headers=cors)),
        Rest("GET", "/v1/models/half_plus_two/", Answer(400, headers=cors)),
        Rest("OPTIONS", _PREDICT, Answer(200, b"", headers=cors), headers=origin),
        Rest("OPTIONS", _PREDICT, Answer(400, b"", headers=cors)),
        Rest("GET", _METRICS, Answer(200, headers=_NO_CORS), headers=origin),
        Rest("GET", "/v2", Answer(404, headers=_NO_CORS), headers=origin),
    ]


def _metric(pattern: str) -> Rest:
    return Rest("GET", _METRICS, Answer(200, matches=f"(?m){pattern}"))


def _labelled(name: str, labels: str) -> Rest:
    """A metric with these labels and no others has counted something; here more labels follow."""
    page = f"^:tensorflow:serving:{name}{{{labels}"
    return differing("metric-labels", _metric(page + "} [1-9]"), _metric(page + ",.*} [1-9]").answer)


_PAGE: list[Row] = [
    *[
        Rest(method, _METRICS, Answer(200, matches="# TYPE :tensorflow:serving:request_count counter",
                                      headers={"Content-Type": "text/plain"}))
        for method in ("GET", "POST", "PUT", "DELETE")
    ],
    Rest("GET", f"{_METRICS}?x=1", Answer(400, f"Unexpected path: {_METRICS}?x=1. Should be {_METRICS}".encode())),
    Rest("GET", f"{_METRICS}/", Answer(404)),
    Rest("GET", _METRICS.upper(), Answer(404)),
    *[
        _metric(f"^# TYPE :tensorflow:serving:{name} {kind}$")
        for name, kind in [
            ("request_count", "counter"),
            ("request_latency", "histogram"),
            ("runtime_latency", "histogram"),
            ("request_example_counts", "histogram"),
            ("request_example_count_total", "counter"),
            ("model_warmup_latency", "histogram"),
            ("batching_session:queuing_latency", "histogram"),
            ("batching_session:wrapped_run_count", "counter"),
            ("batching_session:input_batch_size", "histogram"),
            ("batching_session:processed_batch_size", "histogram"),
            ("batching_session:padding_size", "histogram"),
        ]
    ],
    _labelled("request_count", 'model_name="half_plus_two",status="OK"'),
    _labelled("request_count", 'model_name="nope",status="NOT_FOUND"'),
    _labelled("request_count", 'model_name="",status="INVALID_ARGUMENT"'),
    _labelled("request_latency_count", 'model_name="half_plus_two",API="predict",entrypoint="REST"'),
    _labelled("request_latency_count", 'model_name="half_plus_two",API="Predict",entrypoint="GRPC"'),
    _labelled("request_latency_count", 'model_name="half_plus_two",API="",entrypoint="REST"'),
    _labelled("request_latency_count", 'model_name="forms",API="classify",entrypoint="REST"'),
    _labelled("request_latency_count", 'model_name="forms",API="Regress",entrypoint="GRPC"'),
    _labelled("runtime_latency_count", 'model_name="half_plus_two",API="Predict",runtime="TF1"'),
    _labelled("runtime_latency_count", 'model_name="forms",API="Classify",runtime="TF1"'),
    _labelled("runtime_latency_count", 'model_name="forms",API="Regress",runtime="TF1"'),
    _metric(r'^:tensorflow:serving:request_latency_bucket{.*API="predict",entrypoint="REST".*,le="10"} '),
    _metric(r'^:tensorflow:serving:request_latency_bucket{.*API="predict".*,le="\+Inf"} [1-9]'),
    _metric(r'^:tensorflow:serving:request_latency_bucket{.*le="18"} '),
    _metric(r'^:tensorflow:serving:request_latency_bucket{.*le="1.47476e\+09"} '),
]

ROWS: list[Row] = [
    *_GZIP,
    *_OPTIONS,
    *_cross_origin(_NO_CORS),
    *under(Setting.CORS, _cross_origin(_CORS)),
    *_PAGE,
]
