"""URLs: which are understood, and what is said of the others (http_rest_api_handler.cc)."""

from __future__ import annotations

from tests.conformance.rows import Answer, Rest, Row, bad, differing, error, value

_BODY = b'{"instances": [1.0, 2.0, 5.0]}'
_ONE = value('{"predictions": [2.5, 3.0, 4.5]}')
_TWO = value('{"predictions": [3.5, 4.0, 5.5]}')
_ALL_STATES = Answer(200, matches='"2".*"AVAILABLE".*"1".*"AVAILABLE"')
_METADATA = Answer(200, matches='"serving_default"')
_EMPTY = Answer(400, b"")


def _post(target: str, answer: Answer, body: bytes = _BODY) -> Rest:
    return Rest("POST", target, answer, body)


def _get(target: str, answer: Answer) -> Rest:
    return Rest("GET", target, answer)


def _malformed(method: str, target: str) -> Rest:
    return Rest(method, target, bad(f"Malformed request: {method} {target}"))


def _unknown(name: str, shown: str | None = None) -> Rest:
    return _get(f"/v1/models/{name}", error(404, f"Could not find any versions of model {shown or name}"))


# A percent sign that begins no escape sequence.
_UNDECODABLE = [_get(f"/v1/models/{name}", Answer(400)) for name in ("a%zzb", "a%", "a%4", "%", "a%2/versions/1")]

_FOUND: list[Row] = [
    _post("/v1/models/half_plus_two:predict", _TWO),
    _post("/v1/models/half_plus_two/versions/1:predict", _ONE),
    _post("/v1/models/half_plus_two/versions/2:predict", _TWO),
    _post("/v1/models/half_plus_two/versions/001:predict", _ONE),
    _post("/v1/models/half_plus_two/labels/stable:predict", _ONE),
    _post("/v1/models/half_plus_two/labels/canary:predict", _TWO),
    _get("/v1/models/half_plus_two", _ALL_STATES),
    _get("/v1/models/half_plus_two/versions/1", Answer(200, matches='^[^2]*"1"[^2]*"AVAILABLE"[^2]*$')),
    _get("/v1/models/half_plus_two/versions/0002", Answer(200, matches='"2"')),
    _get("/v1/models/half_plus_two/metadata", _METADATA),
    _get("/v1/models/half_plus_two/versions/1/metadata", Answer(200, matches='"version": "1"')),
    _get("/v1/models/half_plus_two/labels/stable/metadata", Answer(200, matches='"version": "1"')),
    _get("/v1/models/half_plus_two/labels/canary/metadata", Answer(200, matches='"version": "2"')),
    # A status URL takes a label, and does not look at it.
    _get("/v1/models/half_plus_two/labels/stable", _ALL_STATES),
    _get("/v1/models/half_plus_two/labels/nobodys", _ALL_STATES),
    # Letters match in any case, but for the verb and `metadata`.
    _get("/V1/MODELS/half_plus_two", _ALL_STATES),
    _get("/v1/Models/half_plus_two/VERSIONS/2", Answer(200, matches='"2"')),
    _get("/v1/models/half_plus_two/Labels/stable/metadata", _METADATA),
    _get("/v1/models/half_plus_two/METADATA", _ALL_STATES),
    _get("/v1/models/half_plus_two/versions/1/Metadata", Answer(200, matches='"1"')),
    _post("/V1/models/half_plus_two:predict", _TWO),
    _post("/v1/MODELS/half_plus_two/Versions/1:predict", _ONE),
    _unknown("HALF_PLUS_TWO"),
    # Names are decoded after matching, as curl decodes.
    _post("/v1/models/half%5Fplus%5ftwo:predict", _TWO),
    _post("/v1/models/half_plus_two/labels/%73table:predict", _ONE),
    _get("/v1/models/%68alf_plus_two/metadata", _METADATA),
    _unknown("a+b"),
    _unknown("a%20b", "a b"),
    _unknown("a%2Fb", "a/b"),
    _unknown("a%3ab", "a:b"),
    _unknown("a%25b", "a%b"),
    _unknown("a%2525b", "a%25b"),
    _unknown("m%C3%B6ve", "möve"),
    _unknown("%22", '"'),
    _unknown("a;b"),
    _unknown("a&b=c"),
    _unknown("a@b,c$d!e~f"),
    _unknown("a%0Ab", "a\nb"),
    _post("/v1/models/a%2Fb:predict", error(404, "Servable not found for request: Latest(a/b)")),
    _post("/v1/models/half_plus_two/labels/a%2Fb:predict", bad("Unrecognized servable version label: a/b")),
    # The query string is part of what is matched: of a GET it belongs to the name.
    _unknown("half_plus_two?x=1"),
    _unknown("half_plus_two?a%20b", "half_plus_two?a b"),
    _get("/v1/models/half_plus_two/labels/stable?x=1", _ALL_STATES),
    _get("/v1/models/half_plus_two?x/metadata", error(404, "Servable not found for request: Latest(half_plus_two?x)")),
]

_MISSING: list[Row] = [
    _unknown("no_such_model"),
    _get("/v1/models/no_such_model/versions/1", error(404, "Could not find version 1 of model no_such_model")),
    _get("/v1/models/half_plus_two/versions/9", error(404, "Could not find version 9 of model half_plus_two")),
    _get("/v1/models/half_plus_two/versions/0", error(404, "Could not find version 0 of model half_plus_two")),
    _get(
        "/v1/models/half_plus_two/versions/9223372036854775807",
        error(404, "Could not find version 9223372036854775807 of model half_plus_two"),
    ),
    _get("/v1/models/no_such_model/labels/stable", error(404, "Could not find any versions of model no_such_model")),
    _get("/v1/models/no_such_model/metadata", error(404, "Servable not found for request: Latest(no_such_model)")),
    _get(
        "/v1/models/half_plus_two/versions/9/metadata",
        error(404, "Servable not found for request: Specific(half_plus_two, 9)"),
    ),
    _get("/v1/models/half_plus_two/labels/nobodys/metadata", bad("Unrecognized servable version label: nobodys")),
    _get("/v1/models/no_such_model/labels/stable/metadata", bad("Unrecognized servable version label: stable")),
    _get(
        "/v1/models/half_plus_two/labels/lost/metadata",
        error(404, "Servable not found for request: Specific(half_plus_two, 9)"),
    ),
    _get("/v1/models/broken/metadata", error(404, "Servable not found for request: Latest(broken)")),
    _post("/v1/models/no_such_model:predict", error(404, "Servable not found for request: Latest(no_such_model)")),
    _post("/v1/models/broken:predict", error(404, "Servable not found for request: Latest(broken)")),
    _post(
        "/v1/models/half_plus_two/versions/9:predict",
        error(404, "Servable not found for request: Specific(half_plus_two, 9)"),
    ),
    _post(
        "/v1/models/half_plus_two/versions/0:predict",
        error(404, "Servable not found for request: Specific(half_plus_two, 0)"),
    ),
    _post(
        "/v1/models/half_plus_two/labels/lost:predict",
        error(404, "Servable not found for request: Specific(half_plus_two, 9)"),
    ),
    _post("/v1/models/half_plus_two/labels/nobodys:predict", bad("Unrecognized servable version label: nobodys")),
    _post("/v1/models/half_plus_two/labels/Stable:predict", bad("Unrecognized servable version label: Stable")),
    _post("/v1/models/no_such_model/labels/stable:predict", bad("Unrecognized servable version label: stable")),
    # Names that look like other parts of a URL.
    _get("/v1/models", bad("Missing model name in request.")),
    _get("/v1/models/versions/1", bad("Missing model name in request.")),
    _get("/v1/models/labels/stable", bad("Missing model name in request.")),
    _unknown("metadata"),
    _unknown("versions"),
    _get("/v1/models/metadata/metadata", error(404, "Servable not found for request: Latest(metadata)")),
    # A version beyond int64 has an error of its own, and no body.
    _get("/v1/models/half_plus_two/versions/9223372036854775808", _EMPTY),
    _get("/v1/models/half_plus_two/versions/99999999999999999999/metadata", _EMPTY),
    _post("/v1/models/half_plus_two/versions/18446744073709551617:predict", _EMPTY),
    _post(f"/v1/models/m/versions/{'9' * 5000}:predict", _EMPTY),
]

_MALFORMED = [
    _malformed(method, target)
    for method, target in [
        ("GET", "/v1/models/"),
        ("GET", "/v1/models/half_plus_two/"),
        ("GET", "/v1/models/half_plus_two/metadata/"),
        ("GET", "/v1/models/half_plus_two/versions"),
        ("GET", "/v1/models/half_plus_two/versions/"),
        ("GET", "/v1/models/half_plus_two/versions/abc"),
        ("GET", "/v1/models/half_plus_two/versions/-1"),
        ("GET", "/v1/models/half_plus_two/versions/1.0"),
        ("GET", "/v1/models/half_plus_two/versions/1/"),
        ("GET", "/v1/models/half_plus_two/versions/%31"),
        ("GET", "/v1/models/half_plus_two/version/1"),
        ("GET", "/v1/models/half_plus_two/label/stable"),
        ("GET", "/v1/models/half_plus_two/labels/"),
        ("GET", "/v1/models/half_plus_two/labels/a:b"),
        ("GET", "/v1/models/half_plus_two/versions/1/labels/stable"),
        ("GET", "/v1/models/half_plus_two/labels/stable/versions/1"),
        ("GET", "/v1/models/half_plus_two:predict"),
        ("GET", "/v1/models/half_plus_two/versions/1?x=1"),
        ("GET", "/v1/models/half_plus_two/metadata?x=1"),
        ("GET", "/v1/models?x=1"),
        ("GET", "/v1/models//half_plus_two"),
        ("GET", "/v1/models/a/b"),
        ("GET", "/v1/model/half_plus_two"),
        ("GET", "/v1/"),
        ("GET", "/v1/anything"),
        ("GET", "/v1/models/a%2Fb/c"),
        ("POST", "/v1/models"),
        ("POST", "/v1/models/half_plus_two"),
        ("POST", "/v1/models/half_plus_two/metadata"),
        ("POST", "/v1/models:predict"),
        ("POST", "/v1/models/:predict"),
        ("POST", "/v1/models/half_plus_two:"),
        ("POST", "/v1/models/half_plus_two:Predict"),
        ("POST", "/v1/models/half_plus_two:PREDICT"),
        ("POST", "/v1/models/half_plus_two:predict/"),
        ("POST", "/v1/models/half_plus_two:predict?x=1"),
        ("POST", "/v1/models/half_plus_two:multiInference"),
        ("POST", "/v1/models/half_plus_two/predict"),
        ("POST", "/v1/models/half_plus_two%3Apredict"),
        ("POST", "/v1/models/half_plus_two/versions/abc:predict"),
        ("POST", "/v1/models/half_plus_two/versions/:predict"),
        ("POST", "/v1/models/half_plus_two/versions/1/labels/stable:predict"),
        ("POST", "/v1/models/a/b:predict"),
        ("POST", "/v1/models/a:b:predict"),
        ("PUT", "/v1/models/half_plus_two"),
        ("PUT", "/v1/models/half_plus_two:predict"),
        ("DELETE", "/v1/models/half_plus_two"),
        ("PATCH", "/v1/models/half_plus_two"),
        ("PATCH", "/v1/models"),
    ]
]

_OTHER: list[Row] = [
    Rest("HEAD", "/v1/models/half_plus_two", Answer(400)),
    *[
        differing(
            "json-404",
            _get(target, Answer(404, matches="(?i)<html")),
            Answer(404, matches='^{\n    "error": "Not found: ', headers={"Content-Type": "application/json"}),
        )
        for target in ("/", "/v1", "/v2/models/half_plus_two", "/models/half_plus_two", "//v1/models", "/v1models")
    ],
    _get("/v1/models/half_plus_two", Answer(200, headers={"Content-Type": "application/json"})),
    _get("/v1/models/half_plus_two/", Answer(400, headers={"Content-Type": "application/json"})),
    _post("/v1/models/half_plus_two:predict", Answer(200, headers={"Content-Type": "application/json"})),
    # What the request says of its type is not looked at.
    Rest("POST", "/v1/models/half_plus_two:predict", _TWO, _BODY, {"Content-Type": "text/plain"}),
    Rest("POST", "/v1/models/half_plus_two:predict", _TWO, _BODY, {"Content-Type": "application/octet-stream"}),
]

ROWS: list[Row] = [*_FOUND, *_UNDECODABLE, *_MISSING, *_MALFORMED, *_OTHER]
