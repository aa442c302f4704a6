"""The plans of what can be called, the same for both protocols.

What the protocols do in their own ways is a `Dialect`: queries out of tensors and examples.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from serving_app.core.errors import FailedPrecondition, Internal, InvalidArgument
from serving_app.core.metadata import Metadata
from serving_app.core.routing import VersionStatus
from serving_app.core.servable import ModelSpec
from serving_app.core.signatures import Signature
from serving_app.protocol.calls import Outputs
from serving_app.protocol.input_tensors import to_inputs
from serving_app.protocol.predict_checks import find_signature, select_outputs
from serving_app.remote.catalog import Catalog, Signatures
from serving_app.remote.plans import Plan, Query, Terms, ask
from serving_app.remote.untyped import guess_inputs

Array = np.ndarray[Any, Any]

Classes = list[list[tuple[str, float]]]
"""For each example its classes: a label and a score each."""


class UnfitAnswer(Internal):
    """An answer is not what was asked for, or not what the signature promises."""


class Dialect(Protocol):
    """How a protocol asks. A query's `read` raises UnfitAnswer."""

    def predict(
        self,
        spec: ModelSpec,
        signature_name: str,
        inputs: Outputs,
        outputs: tuple[str, ...] | None,
        signature: Signature | None,
    ) -> Query[Outputs]:
        """Without a signature the answer is read by what it says itself."""
        ...

    def classify(self, spec: ModelSpec, signature_name: str, examples: Sequence[bytes]) -> Query[Classes]: ...

    def regress(self, spec: ModelSpec, signature_name: str, examples: Sequence[bytes]) -> Query[Array]: ...

    def metadata(self, spec: ModelSpec) -> Query[Metadata]: ...

    def status(self, spec: ModelSpec) -> Query[tuple[VersionStatus, ...]]: ...


def predict(
    dialect: Dialect,
    catalog: Catalog | None,
    spec: ModelSpec,
    inputs: Any,
    signature_name: str,
    outputs: Sequence[str],
    terms: Terms,
) -> Plan[Outputs]:
    """The plan for a Predict. Without a catalog signatures are not asked for: values are sent as they are.

    What fits neither way may have been made for another version than the one that is there now; so if what was known
    proves to be outdated, the call is made once more.
    """
    if catalog is None:
        wanted = tuple(outputs) or None
        return (yield from ask(dialect.predict(spec, signature_name, guess_inputs(inputs), wanted, None), terms))
    known = catalog.recall(spec)
    if known is None:
        known = yield from _learn(dialect, catalog, spec, terms)
        return (yield from _predict(dialect, known, spec, inputs, signature_name, outputs, terms))
    try:
        return (yield from _predict(dialect, known, spec, inputs, signature_name, outputs, terms))
    except (InvalidArgument, FailedPrecondition, UnfitAnswer):
        if spec.version is not None:
            raise
        renewed = yield from _learn(dialect, catalog, spec, terms)
        if renewed == known:
            raise
    return (yield from _predict(dialect, renewed, spec, inputs, signature_name, outputs, terms))


def metadata(dialect: Dialect, catalog: Catalog | None, spec: ModelSpec, terms: Terms) -> Plan[Metadata]:
    """The plan for the signatures of a version."""
    found = yield from ask(dialect.metadata(spec), terms)
    if catalog is not None:
        catalog.learn(spec, found.signatures)
    return found


def _learn(dialect: Dialect, catalog: Catalog, spec: ModelSpec, terms: Terms) -> Plan[Signatures]:
    found = yield from metadata(dialect, catalog, spec, terms)
    return found.signatures


def _predict(
    dialect: Dialect,
    signatures: Signatures,
    spec: ModelSpec,
    inputs: Any,
    signature_name: str,
    outputs: Sequence[str],
    terms: Terms,
) -> Plan[Outputs]:
    signature = find_signature(signatures, signature_name)
    wanted = select_outputs(signature, outputs)
    tensors = to_inputs(inputs, signature, signature_name)
    return (yield from ask(dialect.predict(spec, signature_name, tensors, wanted, signature), terms))
