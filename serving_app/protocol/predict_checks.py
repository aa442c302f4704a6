"""What makes a Predict request fit a signature: the checks that every front end makes, in TensorFlow Serving's order.

First the signature is found, then the inputs' names are checked, then their values are decoded, and last the wanted
outputs are (predict_util.cc). Codes and messages are TensorFlow Serving's.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from serving_app.core.errors import FailedPrecondition, Internal, InvalidArgument
from serving_app.core.signatures import DEFAULT_SIGNATURE, Signature
from serving_app.protocol.signature_proto import default_inputs


def find_signature(signatures: Mapping[str, Signature], name: str) -> Signature:
    """The signature that a request names; an empty name means `serving_default`."""
    key = name or DEFAULT_SIGNATURE
    signature = signatures.get(key)
    if signature is None:
        raise FailedPrecondition(f'Serving signature key "{key}" not found.')
    return signature


PREDICT_METHODS = ("tensorflow/serving/predict", "tensorflow/serving/classify", "tensorflow/serving/regress")


def check_method(signature: Signature) -> None:
    """Internal, as in TensorFlow Serving, unless the signature was made for one of its three methods.

    Only where method names are checked at all; any signature can be asked otherwise.
    """
    if signature.method_name not in PREDICT_METHODS:
        raise Internal(
            f"Expected prediction signature method_name to be one of {{{', '.join(PREDICT_METHODS)}}}. "
            f"Was: {signature.method_name}"
        )


def check_inputs(signature: Signature, names: Collection[str]) -> None:
    """InvalidArgument unless exactly the signature's inputs are there, but for those that have a default value."""
    wanted = signature.inputs
    if len(names) == len(wanted) and all(name in wanted for name in names):
        return
    defaults = default_inputs(signature)
    missing = wanted.keys() - set(names)
    extra = set(names) - wanted.keys()
    if len(names) > len(wanted) or (len(names) < len(wanted) and not defaults):
        raise InvalidArgument(
            f"input size does not match signature: {len(names)}!={len(wanted)} "
            f"len({_listed(names)}) != len({_listed(wanted)}). "
            f"Sent extra: {_listed(extra)}. Missing but required: {_listed(missing)}."
        )
    for alias in sorted(missing - defaults):
        raise InvalidArgument(
            f"Signature input alias: {alias}(feed name: {wanted[alias].tensor}) not found in request and no default "
            f"value provided. Inputs expected to be in the request {_listed(wanted)}, or default input alias set: "
            f"{_listed(defaults)}"
        )
    if extra:
        raise InvalidArgument(
            f"Inputs contains invalid name. Used request inputs: {_listed(set(names) - extra)}, "
            f"request input: {_listed(names)}"
        )


def select_outputs(signature: Signature, output_filter: Sequence[str] | None) -> tuple[str, ...] | None:
    """The outputs to compute, None meaning all; InvalidArgument if one is unknown or named twice."""
    if not output_filter:
        return None
    seen = set()
    for alias in output_filter:
        if alias not in signature.outputs:
            raise InvalidArgument(
                f"output tensor alias not found in signature: {alias} "
                f"Outputs expected to be in the set {_listed(signature.outputs)}."
            )
        if alias in seen:
            raise InvalidArgument(f"duplicate output tensor alias: {alias}")
        seen.add(alias)
    return tuple(output_filter)


def _listed(names: Collection[str]) -> str:
    return "{" + ",".join(sorted(names)) + "}"
