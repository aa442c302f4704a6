"""Targets that ask the front ends, listening, over models that are loaded: everything that is on the way of a request.
"""

from __future__ import annotations

import http.client

import grpc
from google.protobuf import text_format
from hypothesis import strategies as st

from serving_app.protocol import messages
from tests.conformance.rows import Rest
from tests.conformance.server import Server, request_type
from tests.fuzz.codecs import tensor_protos
from tests.fuzz.inputs import bodies, calls, documents, edited, targets

_PREDICT = "PredictionService/Predict"

_HEADERS = st.sampled_from(
    ({}, {}, {}, {"Content-Encoding": "gzip"}, {"Origin": "http://a"}, {"Content-Type": "text/plain"})
)
_VERBS = st.tuples(
    st.sampled_from(("predict", "predict", "classify", "regress")),
    st.sampled_from(("forms", "half_plus_two", "half_plus_two/versions/1", "half_plus_two/labels/stable", "nope")),
).map(lambda parts: f"POST /v1/models/{parts[1]}:{parts[0]}".encode())

REST = st.tuples(st.one_of(_VERBS, _VERBS, edited(targets())), st.one_of(edited(bodies()), documents()), _HEADERS)

_OF_THE_MODEL = ("{{function_node", "Error while", "[[{{node", "tensorflow", "Matrix", "Input to reshape")
"""How TensorFlow's own errors can be told from ours: they name a node of the graph."""


def check_rest(server: Server, request: tuple[bytes, bytes, dict[str, str]]) -> None:
    """An answer comes, and it is no error of the server."""
    line, body, headers = request
    method, _, target = line.decode("utf-8", "surrogateescape").partition(" ")
    if any(letter <= " " or "\x7f" <= letter <= "\x9f" for letter in method + target) or not method.isalpha():
        return  # not HTTP any more
    try:
        status, _, answer = server.ask_rest(Rest(method, target, None, body, headers))  # type: ignore[arg-type]
    except http.client.HTTPException as error:
        raise AssertionError(f"no answer: {error!r}") from error
    assert status != 500 or any(sign.encode() in answer for sign in _OF_THE_MODEL), (status, answer[:500])
    assert 200 <= status < 500 or status in (500, 501), (status, answer[:500])


@st.composite
def _predictions(draw: st.DrawFn) -> tuple[str, bytes]:
    """A request in which only the tensor is anything."""
    signature = draw(st.sampled_from(("float32", "int32", "string", "bool", "complex64", "uint16", "matmul", "sum")))
    request = messages.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = "forms", signature
    request.inputs["a" if signature == "sum" else "x"].MergeFromString(draw(tensor_protos()))
    return f"/tensorflow.serving.{_PREDICT}", request.SerializeToString()


def grpc_inputs() -> st.SearchStrategy[tuple[str, bytes]]:
    """A method's path and a request to it. Imports TensorFlow, and so is no constant."""
    encoded: dict[str, list[bytes]] = {}
    for row in calls():
        service, _, method = row.method.partition("/")
        if service in ("PredictionService", "ModelService") and len(row.request) < 3000:
            message = text_format.Parse(row.request, request_type(method)())
            encoded.setdefault(f"/tensorflow.serving.{row.method}", []).append(message.SerializeToString())
    by_method = [st.tuples(st.just(path), edited(seeds)) for path, seeds in encoded.items()]
    return st.one_of(*by_method, _predictions())


def check_grpc(server: Server, request: tuple[str, bytes]) -> None:
    """An answer comes, and it is no error of the server."""
    method, encoded = request
    call = server.channel.unary_unary(method).future(encoded, timeout=60)
    code, text = call.code(), call.details()
    assert code is not grpc.StatusCode.DEADLINE_EXCEEDED
    is_fault = code in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN)
    assert not is_fault or any(sign in text for sign in _OF_THE_MODEL), (code, text)
