"""The checks of names that every front end makes, with TensorFlow Serving's codes and messages."""

from __future__ import annotations

import pytest

from serving_app.core.errors import FailedPrecondition, InvalidArgument
from serving_app.core.signatures import DType, Signature, TensorSpec
from serving_app.protocol import messages
from serving_app.protocol.predict_checks import check_inputs, find_signature, select_outputs
from serving_app.protocol.signature_proto import decode_signature, make_signature


def signature_of(inputs: str, defaults: str = "", outputs: str = "yz") -> Signature:
    spec = TensorSpec("t:0", DType.FLOAT, ())
    message = messages.SignatureDef.FromString(
        make_signature(dict.fromkeys(inputs, spec), dict.fromkeys(outputs, spec)).encoded
    )
    for alias in defaults:
        message.defaults[alias].dtype = DType.FLOAT
    return decode_signature(message)


def test_find_signature() -> None:
    """No name means serving_default; an unknown one fails a precondition."""
    signatures = {"serving_default": signature_of("a"), "other": signature_of("b")}
    assert find_signature(signatures, "") is signatures["serving_default"]
    assert find_signature(signatures, "other") is signatures["other"]
    with pytest.raises(FailedPrecondition, match=r'^Serving signature key "gone" not found.$'):
        find_signature(signatures, "gone")
    with pytest.raises(FailedPrecondition, match=r'^Serving signature key "serving_default" not found.$'):
        find_signature({}, "")


@pytest.mark.parametrize(
    ("inputs", "defaults", "sent"),
    [("ab", "", "ab"), ("ab", "b", "a"), ("ab", "ab", ""), ("", "", ""), ("ab", "b", "ba")],
)
def test_inputs_that_fit(inputs: str, defaults: str, sent: str) -> None:
    """All inputs fit, in any order; those with a default value may be left out."""
    check_inputs(signature_of(inputs, defaults), set(sent))


@pytest.mark.parametrize(
    ("inputs", "defaults", "sent", "message"),
    [
        (
            "ab",
            "",
            "a",
            "input size does not match signature: 1!=2 len({a}) != len({a,b}). Sent extra: {}. "
            "Missing but required: {b}.",
        ),
        (
            "x",
            "",
            "ba",
            "input size does not match signature: 2!=1 len({a,b}) != len({x}). Sent extra: {a,b}. "
            "Missing but required: {x}.",
        ),
        (
            "ab",
            "b",
            "abc",
            "input size does not match signature: 3!=2 len({a,b,c}) != len({a,b}). Sent extra: {c}. "
            "Missing but required: {}.",
        ),
        (
            "ab",
            "",
            "ac",
            "Signature input alias: b(feed name: t:0) not found in request and no default value provided. Inputs "
            "expected to be in the request {a,b}, or default input alias set: {}",
        ),
        (
            "ab",
            "b",
            "b",
            "Signature input alias: a(feed name: t:0) not found in request and no default value provided. Inputs "
            "expected to be in the request {a,b}, or default input alias set: {b}",
        ),
        ("ab", "b", "ac", "Inputs contains invalid name. Used request inputs: {a}, request input: {a,c}"),
    ],
)
def test_inputs_that_do_not_fit(inputs: str, defaults: str, sent: str, message: str) -> None:
    """Wrong numbers and wrong names are invalid, in TensorFlow Serving's words, and lists are sorted."""
    with pytest.raises(InvalidArgument) as caught:
        check_inputs(signature_of(inputs, defaults), set(sent))
    assert caught.value.message == message


@pytest.mark.parametrize(("wanted", "selected"), [(None, None), ((), None), (["z"], ("z",)), (["z", "y"], ("z", "y"))])
def test_outputs(wanted: list[str] | None, selected: tuple[str, ...] | None) -> None:
    """No filter selects all outputs, otherwise exactly the named ones are selected."""
    assert select_outputs(signature_of("a"), wanted) == selected


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (
            ["y", "q"],
            "output tensor alias not found in signature: q Outputs expected to be in the set {y,z}.",
        ),
        (["y", "y"], "duplicate output tensor alias: y"),
    ],
)
def test_outputs_that_do_not_exist(wanted: list[str], message: str) -> None:
    """An unknown output, and one that is named twice, is invalid."""
    with pytest.raises(InvalidArgument) as caught:
        select_outputs(signature_of("a"), wanted)
    assert caught.value.message == message
