"""Targets that read bytes and do no IO: URLs, JSON, tensors, warm-up files."""

from __future__ import annotations

from typing import Any

import numpy as np
from google.protobuf import text_format
from google.protobuf.message import DecodeError
from hypothesis import strategies as st

from serving_app.core.errors import Code, ServingError
from serving_app.core.servable import ModelSpec
from serving_app.core.signatures import DType, Signature, TensorSpec
from serving_app.protocol import json_document, json_examples, json_predict, messages, rest_url, tfrecord
from serving_app.protocol.dtypes import from_numpy
from serving_app.protocol.json_answer import encode_outputs
from serving_app.protocol.json_numbers import float_text, number_texts
from serving_app.protocol.json_parser import parse_exactly
from serving_app.protocol.json_predict import PredictBody
from serving_app.protocol.prediction_log import decode_log, logged_call
from serving_app.protocol.rest_status import error_answer
from serving_app.protocol.tensor_proto import decode_tensor, encode_tensor
from tests.fuzz.inputs import bodies, calls, documents, edited, targets

OUR_FAULT = {Code.INTERNAL, Code.UNKNOWN, Code.OK}


def refuse_our_faults(error: ServingError) -> None:
    """An error is the sender's fault, has a text, and can be sent."""
    assert error.code not in OUR_FAULT, error
    assert error.message
    error_answer(error)[1].decode()


# --- URLs ------------------------------------------------------------------------------------------------------------

URLS = edited(targets())


def check_url(line: bytes) -> None:
    """A request line is understood, or refused as malformed; names come out as they went in."""
    method, _, target = line.decode("utf-8", "surrogateescape").partition(" ")
    try:
        call = rest_url.parse(method, target)
    except ServingError as error:
        refuse_our_faults(error)
        return
    assert rest_url.is_api_target(target)
    assert call.spec.name
    assert call.spec.version is None or 0 <= call.spec.version < 2**63


# --- JSON ------------------------------------------------------------------------------------------------------------


def _signature(**inputs: DType) -> Signature:
    return Signature({name: TensorSpec(f"{name}:0", dtype, None) for name, dtype in inputs.items()}, {})


_SIGNATURES = [
    *(_signature(x=dtype) for dtype in (DType.FLOAT, DType.DOUBLE, DType.INT32, DType.UINT8, DType.INT64)),
    *(_signature(x=dtype) for dtype in (DType.UINT64, DType.BOOL, DType.STRING, DType.HALF)),
    _signature(a=DType.FLOAT, b=DType.STRING),
    _signature(b64=DType.STRING),
    _signature(),
]

JSON = st.one_of(edited(bodies()), documents())


def check_json(text: bytes) -> None:
    """The quick parser reads what the exact one reads; what can be decoded for a signature can be written again, in
    either style."""
    _check_examples(text)
    try:
        body = json_predict.parse_predict(text)
    except ServingError as error:
        refuse_our_faults(error)
        return
    assert repr(json_document.parse(text)) == repr(parse_exactly(text))
    quick = json_predict.parse_predict(text, large=0)
    for signature in _SIGNATURES:
        assert _decoded(quick, signature) == _decoded(body, signature)
        try:
            arrays = json_predict.decode_inputs(body, signature)
            answers = [encode_outputs(arrays, is_row=body.is_row, style=style) for style in ("exact", "compact")]
        except ServingError as error:
            refuse_our_faults(error)
        else:
            for answer in answers:
                _check_again(body, arrays, answer)


def _decoded(body: PredictBody, signature: Signature) -> str:
    """The tensors of a request, or its error, so that they can be compared."""
    try:
        arrays = json_predict.decode_inputs(body, signature)
    except ServingError as error:
        return f"{error.code.name}: {error.message}"
    return repr({name: (array.dtype, array.shape, array.tolist()) for name, array in arrays.items()})


def _check_examples(text: bytes) -> None:
    try:
        json_examples.parse_examples(text, ModelSpec("m"), "classify")
    except ServingError as error:
        refuse_our_faults(error)


def _check_again(body: PredictBody, arrays: dict[str, Any], answer: bytes) -> None:
    """What an answer says, asked as a question, gives the same tensors."""
    names = {"predictions": "instances", "outputs": "inputs"}
    members = {names[name]: value for name, value in json_document.parse(answer).items()}  # type: ignore[union-attr]
    if body.is_row and not all(array.shape[0] for array in arrays.values()):
        return
    types = {name: from_numpy(array.dtype) for name, array in arrays.items()}
    again = json_predict.decode_inputs(PredictBody("", members), _signature(**types))
    for name, array in arrays.items():
        if array.dtype.kind == "O":
            assert array.tolist() == again[name].tolist()
        elif array.size:
            np.testing.assert_array_equal(array, again[name])


# --- floats as text ---------------------------------------------------------------------------------------------------

FLOATS = st.tuples(st.sampled_from((np.float32, np.float64)), st.integers(0, 2**32))


def check_floats(case: tuple[type, int]) -> None:
    """Thousands of floats at once have the texts that they have one by one, whatever their bits."""
    form, seed = case
    draw = np.random.default_rng(seed)
    bits = draw.integers(0, 256, 2000 * np.dtype(form).itemsize, np.uint8).view(form)
    with np.errstate(over="ignore"):
        decimals = (draw.integers(0, 2 * 10**6, 2000) * 10.0 ** draw.integers(-50, 40, 2000)).astype(form)
        fractions = (draw.integers(0, 2**56, 2000) / 2.0 ** draw.integers(0, 80, 2000)).astype(form)
    below = np.nextafter(decimals, form(0))
    for values in (bits, decimals, fractions, below, draw.normal(size=2000).astype(form)):
        texts = number_texts(values)
        assert texts == [float_text(value, form is np.float32).encode() for value in values.tolist()]


# --- tensors and warm-up files ---------------------------------------------------------------------------------------


def _tensors() -> list[bytes]:
    tensors = []
    for value in (
        np.arange(6, dtype=np.float32).reshape(2, 3), np.array(7, np.int64), np.array([True, False]),
        np.array([b"a", b"bc"], object), np.array([1 + 2j], np.complex64), np.zeros((0, 3), np.uint8),
        np.array([1.5], np.float16), np.array([2**64 - 1], np.uint64),
    ):
        tensors += [encode_tensor(value, as_content=how).SerializeToString() for how in (True, False)]
    return tensors


_SIZES = st.sampled_from((-1, 0, 1, 2, 3, 6, 64, 1 << 20, 1 << 31, 1 << 62, (1 << 63) - 1))
_LISTS: dict[str, st.SearchStrategy[Any]] = {
    "float_val": st.floats(width=32),
    "double_val": st.floats(),
    "int_val": st.integers(-(2**31), 2**31 - 1),
    "string_val": st.binary(max_size=4),
    "scomplex_val": st.floats(width=32),
    "int64_val": st.integers(-(2**63), 2**63 - 1),
    "bool_val": st.booleans(),
    "dcomplex_val": st.floats(),
    "half_val": st.integers(-(2**31), 2**31 - 1),
    "uint32_val": st.integers(0, 2**32 - 1),
    "uint64_val": st.integers(0, 2**64 - 1),
}


@st.composite
def tensor_protos(draw: st.DrawFn) -> bytes:
    """A TensorProto whose parts are all well-formed, and fit together or not."""
    proto = messages.TensorProto(dtype=draw(st.integers(-1, 40) | st.just(101)))
    for size in draw(st.lists(_SIZES, max_size=4)):
        proto.tensor_shape.dim.add(size=size)
    proto.tensor_shape.unknown_rank = draw(st.sampled_from((False, False, False, True)))
    for name in draw(st.lists(st.sampled_from(sorted(_LISTS)), max_size=2)):
        getattr(proto, name).extend(draw(st.lists(_LISTS[name], max_size=7)))
    proto.tensor_content = draw(st.just(b"") | st.binary(max_size=24))
    encoded: bytes = proto.SerializeToString()
    return encoded


TENSORS = st.one_of(edited(_tensors()), tensor_protos())


def check_tensor(encoded: bytes) -> None:
    """A TensorProto is refused, or gives an array that can be sent and read again."""
    try:
        proto = messages.TensorProto.FromString(encoded)
    except DecodeError:
        return
    try:
        array = decode_tensor(proto, "x")
    except ServingError as error:
        refuse_our_faults(error)
        return
    for how in (True, False):
        again = decode_tensor(encode_tensor(array, as_content=how), "x")
        assert (again.dtype, again.shape) == (array.dtype, array.shape)
        assert again.tobytes() == array.tobytes() or again.tolist() == array.tolist()


def _warmups() -> list[bytes]:
    records = []
    for row in calls():
        kind = {"Predict": "predict_log", "Classify": "classify_log", "Regress": "regress_log"}.get(
            row.method.rpartition("/")[2]
        )
        if kind is not None and len(row.request) < 500:
            records.append(_logged(kind, row.request))
    files = [tfrecord.encode_record(record) for record in records[:60]]
    return [*files, b"".join(files[:3])]


def _logged(kind: str, request: str) -> bytes:
    log = messages.PredictionLog()
    text_format.Parse(request, getattr(log, kind).request, descriptor_pool=messages.POOL)
    encoded: bytes = log.SerializeToString()
    return encoded


WARMUPS = edited(_warmups())


def check_warmup(encoded: bytes) -> None:
    """A file of warm-up records is refused, or gives calls."""
    try:
        for record in tfrecord.decode_records(encoded):
            logged_call(decode_log(record), {"serving_default": _SIGNATURES[0], "two": _SIGNATURES[-3]})
    except ServingError as error:
        refuse_our_faults(error)
