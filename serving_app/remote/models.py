"""One model of a server, as requests name it: what can be called, blocking and for asyncio.

The two classes have the same methods, each of which makes a plan and has it run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np

from serving_app.core.metadata import Metadata
from serving_app.core.routing import VersionStatus
from serving_app.core.servable import ModelSpec
from serving_app.core.signatures import DEFAULT_SIGNATURE
from serving_app.protocol.call_options import names_of
from serving_app.protocol.columns import gather
from serving_app.protocol.features import to_examples
from serving_app.remote import calls
from serving_app.remote.calls import Classes, Dialect
from serving_app.remote.catalog import Catalog
from serving_app.remote.plans import Plan, Terms, ask

T = TypeVar("T")
Array = np.ndarray[Any, Any]

DEFAULT_TIMEOUT_S = 60.0


class Caller(Protocol):
    """What a model needs of its client."""

    dialect: Dialect
    catalog: Catalog | None

    def terms(self, timeout: float | None) -> Terms: ...


class BlockingCaller(Caller, Protocol):
    def run(self, plan: Plan[T]) -> T: ...


class AsyncCaller(Caller, Protocol):
    async def run(self, plan: Plan[T]) -> T: ...


class Model:
    """A model of a server. Made by `client.model(...)`; may be used from many threads."""

    def __init__(self, caller: BlockingCaller, spec: ModelSpec) -> None:
        self._caller = caller
        self._plans = _Plans(caller, spec)

    def predict(
        self,
        inputs: Any = None,
        /,
        *,
        signature_name: str = DEFAULT_SIGNATURE,
        outputs: Sequence[str] = (),
        timeout: float | None = DEFAULT_TIMEOUT_S,
        **named: Any,
    ) -> dict[str, Array]:
        """The outputs of one call, by name; `outputs` chooses some.

        Inputs are given by keyword or as a table, or for a signature with one input as its value: arrays, nested lists
        or scalars, turned into the signature's types.
        """
        return self._caller.run(self._plans.predict(gather(inputs, named), signature_name, outputs, timeout))

    def classify(
        self,
        examples: Any = None,
        /,
        *,
        signature_name: str = DEFAULT_SIGNATURE,
        context: Mapping[str, Any] | None = None,
        timeout: float | None = DEFAULT_TIMEOUT_S,
        **named: Any,
    ) -> Classes:
        """For each example a list of its classes, a label and a score each.

        Examples are given as a list of mappings of features, as columns by keyword or in a mapping, a DataFrame or an
        Arrow table, or as tf.Examples. All of them have the features of `context`, too.
        """
        return self._caller.run(self._plans.classify(gather(examples, named), context, signature_name, timeout))

    def regress(
        self,
        examples: Any = None,
        /,
        *,
        signature_name: str = DEFAULT_SIGNATURE,
        context: Mapping[str, Any] | None = None,
        timeout: float | None = DEFAULT_TIMEOUT_S,
        **named: Any,
    ) -> Array:
        """A value for each example, in one dimension. Examples are given as in `classify`."""
        return self._caller.run(self._plans.regress(gather(examples, named), context, signature_name, timeout))

    def metadata(self, *, timeout: float | None = DEFAULT_TIMEOUT_S) -> Metadata:
        """Which version answers at the moment, and its signatures."""
        return self._caller.run(self._plans.metadata(timeout))

    def status(self, *, timeout: float | None = DEFAULT_TIMEOUT_S) -> tuple[VersionStatus, ...]:
        """The states of the model's versions, in the server's order."""
        return self._caller.run(self._plans.status(timeout))


class AsyncModel:
    """The same for coroutines of one event loop; many calls may be under way at once."""

    def __init__(self, caller: AsyncCaller, spec: ModelSpec) -> None:
        self._caller = caller
        self._plans = _Plans(caller, spec)

    async def predict(
        self,
        inputs: Any = None,
        /,
        *,
        signature_name: str = DEFAULT_SIGNATURE,
        outputs: Sequence[str] = (),
        timeout: float | None = DEFAULT_TIMEOUT_S,
        **named: Any,
    ) -> dict[str, Array]:
        """As `Model.predict`."""
        return await self._caller.run(self._plans.predict(gather(inputs, named), signature_name, outputs, timeout))

    async def classify(
        self,
        examples: Any = None,
        /,
        *,
        signature_name: str = DEFAULT_SIGNATURE,
        context: Mapping[str, Any] | None = None,
        timeout: float | None = DEFAULT_TIMEOUT_S,
        **named: Any,
    ) -> Classes:
        """As `Model.classify`."""
        return await self._caller.run(self._plans.classify(gather(examples, named), context, signature_name, timeout))

    async def regress(
        self,
        examples: Any = None,
        /,
        *,
        signature_name: str = DEFAULT_SIGNATURE,
        context: Mapping[str, Any] | None = None,
        timeout: float | None = DEFAULT_TIMEOUT_S,
        **named: Any,
    ) -> Array:
        """As `Model.regress`."""
        return await self._caller.run(self._plans.regress(gather(examples, named), context, signature_name, timeout))

    async def metadata(self, *, timeout: float | None = DEFAULT_TIMEOUT_S) -> Metadata:
        """As `Model.metadata`."""
        return await self._caller.run(self._plans.metadata(timeout))

    async def status(self, *, timeout: float | None = DEFAULT_TIMEOUT_S) -> tuple[VersionStatus, ...]:
        """As `Model.status`."""
        return await self._caller.run(self._plans.status(timeout))


class _Plans:
    """The plans of calls of one model."""

    def __init__(self, caller: Caller, spec: ModelSpec) -> None:
        self._caller = caller
        self._spec = spec

    def predict(
        self, inputs: Any, signature_name: str, outputs: Sequence[str], timeout: float | None
    ) -> Plan[dict[str, Array]]:
        caller = self._caller
        terms, wanted = caller.terms(timeout), names_of("outputs", outputs)
        return calls.predict(caller.dialect, caller.catalog, self._spec, inputs, signature_name, wanted, terms)

    def classify(
        self, examples: Any, context: Mapping[str, Any] | None, signature_name: str, timeout: float | None
    ) -> Plan[Classes]:
        terms = self._caller.terms(timeout)
        return ask(self._caller.dialect.classify(self._spec, signature_name, to_examples(examples, context)), terms)

    def regress(
        self, examples: Any, context: Mapping[str, Any] | None, signature_name: str, timeout: float | None
    ) -> Plan[Array]:
        terms = self._caller.terms(timeout)
        return ask(self._caller.dialect.regress(self._spec, signature_name, to_examples(examples, context)), terms)

    def metadata(self, timeout: float | None) -> Plan[Metadata]:
        return calls.metadata(self._caller.dialect, self._caller.catalog, self._spec, self._caller.terms(timeout))

    def status(self, timeout: float | None) -> Plan[tuple[VersionStatus, ...]]:
        return ask(self._caller.dialect.status(self._spec), self._caller.terms(timeout))
