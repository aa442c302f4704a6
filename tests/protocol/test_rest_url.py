"""The grammar of REST URLs."""

from __future__ import annotations

import pytest

from serving_app.core.errors import Code, InvalidArgument
from serving_app.core.servable import ModelSpec
from serving_app.protocol.rest_url import RestAction, UnreadablePart, is_api_target, parse

PREDICT, CLASSIFY, REGRESS = RestAction.PREDICT, RestAction.CLASSIFY, RestAction.REGRESS
STATUS, METADATA = RestAction.STATUS, RestAction.METADATA

CALLS = [
    ("POST", "/v1/models/m:predict", PREDICT, ModelSpec("m")),
    ("POST", "/v1/models/m:classify", CLASSIFY, ModelSpec("m")),
    ("POST", "/v1/models/m:regress", REGRESS, ModelSpec("m")),
    ("POST", "/v1/models/m/versions/3:predict", PREDICT, ModelSpec("m", version=3)),
    ("POST", "/v1/models/m/versions/0:predict", PREDICT, ModelSpec("m", version=0)),
    ("POST", "/v1/models/m/versions/007:predict", PREDICT, ModelSpec("m", version=7)),
    ("POST", f"/v1/models/m/versions/{2**63 - 1}:predict", PREDICT, ModelSpec("m", version=2**63 - 1)),
    ("POST", f"/v1/models/m/versions/{'0' * 5000}12:predict", PREDICT, ModelSpec("m", version=12)),
    ("POST", "/v1/models/m/labels/stable:predict", PREDICT, ModelSpec("m", label="stable")),
    ("POST", "/v1/models/m/labels/any thing!:predict", PREDICT, ModelSpec("m", label="any thing!")),
    ("POST", "/V1/MODELS/Name:predict", PREDICT, ModelSpec("Name")),
    ("POST", "/v1/models/m/VERSIONS/3:predict", PREDICT, ModelSpec("m", version=3)),
    ("POST", "/v1/models/a%2Fb%3Ac:predict", PREDICT, ModelSpec("a/b:c")),
    ("POST", "/v1/models/a+b%20c:predict", PREDICT, ModelSpec("a+b c")),
    ("POST", "/v1/models/50%25:predict", PREDICT, ModelSpec("50%")),
    ("POST", "/v1/models/%C3%A9:predict", PREDICT, ModelSpec("é")),
    ("POST", "/v1/models/%ff:predict", PREDICT, ModelSpec("\udcff")),
    ("POST", "/v1/models/m/labels/a%2fb:predict", PREDICT, ModelSpec("m", label="a/b")),
    ("GET", "/v1/models/m", STATUS, ModelSpec("m")),
    ("GET", "/v1/models/m/versions/3", STATUS, ModelSpec("m", version=3)),
    ("GET", "/v1/models/m/labels/stable", STATUS, ModelSpec("m", label="stable")),
    ("GET", "/v1/models/m/metadata", METADATA, ModelSpec("m")),
    ("GET", "/v1/models/m/versions/3/metadata", METADATA, ModelSpec("m", version=3)),
    ("GET", "/v1/models/m/labels/stable/metadata", METADATA, ModelSpec("m", label="stable")),
    ("GET", "/v1/models/m/METADATA", STATUS, ModelSpec("m")),
    ("GET", "/v1/models/metadata", STATUS, ModelSpec("metadata")),
    ("GET", "/v1/models/m?x=1", STATUS, ModelSpec("m?x=1")),
    ("GET", "/v1/models/models/versions/1", STATUS, ModelSpec("models", version=1)),
]


@pytest.mark.parametrize(("method", "target", "action", "spec"), CALLS)
def test_a_request_line_names_an_action_and_a_model(method: str, target: str, action: RestAction, spec: ModelSpec):
    """Each form of the grammar is understood, in any case and with encoded names."""
    call = parse(method, target)
    assert (call.action, call.spec) == (action, spec)


MALFORMED = [
    ("POST", "/v1/models/m"),
    ("POST", "/v1/models/m:PREDICT"),
    ("POST", "/v1/models/m:explain"),
    ("POST", "/v1/models/m:predict?x=1"),
    ("POST", "/v1/models/m:predict/"),
    ("POST", "/v1/models/:predict"),
    ("POST", "/v1/models:predict"),
    ("POST", "/v1/models/m/versions/1/labels/a:predict"),
    ("POST", "/v1/models/m/versions/abc:predict"),
    ("POST", "/v1/models/m/versions/-1:predict"),
    ("POST", "/v1/models/m/versions/:predict"),
    ("POST", "/v1/models/m/versions/١:predict"),
    ("POST", "/v1/modelſ/m:predict"),
    ("POST", "/v1/models/m/version/1:predict"),
    ("POST", "/v1/models/m/label/a:predict"),
    ("POST", "/v1/models/a/b:predict"),
    ("POST", "/v1/models/m/metadata"),
    ("GET", "/v1/models/m:predict"),
    ("GET", "/v1/models/m/"),
    ("GET", "/v1/models/"),
    ("GET", "/v1/"),
    ("GET", "/v1/models/m/versions/abc"),
    ("GET", "/v1/models/m/versions/1/labels/a"),
    ("GET", "/v1/models/m/metadata/"),
    ("HEAD", "/v1/models/m"),
    ("PUT", "/v1/models/m"),
    ("DELETE", "/v1/models/m"),
    ("PATCH", "/v1/models/m:predict"),
    ("get", "/v1/models/m"),
]


@pytest.mark.parametrize(("method", "target"), MALFORMED)
def test_a_malformed_request_is_quoted(method: str, target: str):
    """Whatever is not in the grammar is refused with the request line in the message."""
    with pytest.raises(InvalidArgument) as caught:
        parse(method, target)
    assert caught.value.message == f"Malformed request: {method} {target}"


@pytest.mark.parametrize("target", ["/v1/models", "/v1/models/versions/1", "/v1/models/labels/a/metadata"])
def test_a_model_name_is_required(target: str):
    """A URL that the grammar allows without a name is refused for the lack of it."""
    with pytest.raises(InvalidArgument) as caught:
        parse("GET", target)
    assert caught.value.message == "Missing model name in request."


@pytest.mark.parametrize("digits", [str(2**63), "9" * 30, "1" * 5000])
def test_a_version_beyond_int64_is_an_error_of_its_own(digits: str):
    """A version that int64 cannot hold has its own error class, because its answer has no body."""
    with pytest.raises(UnreadablePart) as caught:
        parse("POST", f"/v1/models/m/versions/{digits}:predict")
    assert caught.value.message == f"Failed to convert version: {digits} to numeric."
    assert caught.value.code is Code.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("/v1/models/%zz:predict", "Failed to decode model name:%zz"),
        ("/v1/models/50%:predict", "Failed to decode model name:50%"),
        ("/v1/models/%2:predict", "Failed to decode model name:%2"),
        ("/v1/models/%/labels/%:predict", "Failed to decode model name:%"),
        ("/v1/models/m/labels/a%4:predict", "Failed to decode model version label:a%4"),
    ],
)
def test_a_part_that_cannot_be_decoded_is_an_error_of_its_own(target: str, message: str):
    """A percent sign that begins no escape sequence has the error class whose answer has no body."""
    with pytest.raises(UnreadablePart) as caught:
        parse("POST", target)
    assert caught.value.message == message


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/v1/models/m", True),
        ("/V1/whatever?x", True),
        ("/v1/", True),
        ("/v1", False),
        ("/v2/models/m", False),
        ("/", False),
        ("/monitoring/prometheus/metrics", False),
        ("http://host/v1/models/m", False),
    ],
)
def test_the_api_has_everything_under_v1(target: str, expected: bool):
    """Targets under /v1/ are the API's, in any case of letters; no other is."""
    assert is_api_target(target) is expected
