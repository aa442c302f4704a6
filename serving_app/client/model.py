"""A model as Python callers on the cluster see it: ask it, and learn what can be asked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from serving_app.client.attributes import attributes_of
from serving_app.client.link import Link
from serving_app.client.link_loop import across, wait
from serving_app.client.prediction import Prediction
from serving_app.client.request import MakeCall, Request
from serving_app.core.errors import NotFound
from serving_app.core.history import Happening
from serving_app.core.metadata import Metadata
from serving_app.core.routing import VersionStatus as VersionStatus
from serving_app.core.routing import find_statuses
from serving_app.core.servable import ModelSpec
from serving_app.core.signatures import DEFAULT_SIGNATURE, Signature
from serving_app.core.traffic import DEFAULT_TARGET, FirstValue, Traffic
from serving_app.protocol.call_options import names_of, seconds_of
from serving_app.protocol.calls import Call
from serving_app.protocol.columns import gather
from serving_app.protocol.example_requests import CLASSIFY_METHOD, REGRESS_METHOD, ExampleQuery, Task, make_call
from serving_app.protocol.example_results import label_scores, read_classification, read_regression
from serving_app.protocol.features import to_examples
from serving_app.protocol.first_values import first_of_examples, first_of_given
from serving_app.protocol.input_tensors import to_inputs
from serving_app.protocol.predict_checks import find_signature, select_outputs

if TYPE_CHECKING:
    from serving_app.client.connection import Connection

DEFAULT_TIMEOUT_S = 60.0

Array = np.ndarray[Any, Any]
Classes = list[tuple[str, float]]


class Model:
    """One model as requests name it. It may be pickled, as its connection may."""

    def __init__(self, connection: Connection, spec: ModelSpec, attributes: Mapping[str, str]) -> None:
        self._connection = connection
        self._spec = spec
        self._attributes = attributes

    def __repr__(self) -> str:
        spec = self._spec
        which = f", version={spec.version}" if spec.version is not None else ""
        which += f", label={spec.label!r}" if spec.label is not None else ""
        return f"{self._connection!r}.model({spec.name!r}{which})"

    def predict(
        self,
        inputs: Any = None,
        /,
        *,
        signature_name: str = DEFAULT_SIGNATURE,
        outputs: Sequence[str] = (),
        timeout: float | None = DEFAULT_TIMEOUT_S,
        **named: Any,
    ) -> Prediction:
        """The outputs of one call, by name, and their `version`. Blocks; from a coroutine, await `predict_async`.

        Inputs are given by keyword, as a mapping, a list of rows, a DataFrame or an Arrow table; an only input also
        without its name. They are turned into the signature's types.
        """
        given = gather(inputs, named)
        return self._ask(_prediction(given, signature_name, outputs, timeout), partial(first_of_given, given))

    async def predict_async(
        self,
        inputs: Any = None,
        /,
        *,
        signature_name: str = DEFAULT_SIGNATURE,
        outputs: Sequence[str] = (),
        timeout: float | None = DEFAULT_TIMEOUT_S,
        **named: Any,
    ) -> Prediction:
        """The same without blocking; many may be under way at once."""
        given = gather(inputs, named)
        make = _prediction(given, signature_name, outputs, timeout)
        return await self._ask_async(make, partial(first_of_given, given))

    def classify(
        self,
        examples: Any = None,
        /,
        *,
        signature_name: str = DEFAULT_SIGNATURE,
        context: Mapping[str, Any] | None = None,
        timeout: float | None = DEFAULT_TIMEOUT_S,
        **named: Any,
    ) -> list[Classes]:
        """For each example its classes, as pairs of a label and a score.

        Examples are given as a list of mappings of features, as columns by keyword or in a mapping, a DataFrame or an
        Arrow table, or as tf.Examples. All of them have the features of `context`, too.
        """
        given = to_examples(gather(examples, named), context)
        outputs = self._ask(
            self._question(CLASSIFY_METHOD, given, signature_name, timeout), partial(first_of_examples, given)
        )
        return label_scores(read_classification(outputs, len(given)))

    async def classify_async(
        self,
        examples: Any = None,
        /,
        *,
        signature_name: str = DEFAULT_SIGNATURE,
        context: Mapping[str, Any] | None = None,
        timeout: float | None = DEFAULT_TIMEOUT_S,
        **named: Any,
    ) -> list[Classes]:
        """The same without blocking."""
        given = to_examples(gather(examples, named), context)
        outputs = await self._ask_async(
            self._question(CLASSIFY_METHOD, given, signature_name, timeout), partial(first_of_examples, given)
        )
        return label_scores(read_classification(outputs, len(given)))

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
        """A value for each example, which are given as in `classify`."""
        given = to_examples(gather(examples, named), context)
        outputs = self._ask(
            self._question(REGRESS_METHOD, given, signature_name, timeout), partial(first_of_examples, given)
        )
        return read_regression(outputs, len(given)).values

    async def regress_async(
        self,
        examples: Any = None,
        /,
        *,
        signature_name: str = DEFAULT_SIGNATURE,
        context: Mapping[str, Any] | None = None,
        timeout: float | None = DEFAULT_TIMEOUT_S,
        **named: Any,
    ) -> Array:
        """The same without blocking."""
        given = to_examples(gather(examples, named), context)
        outputs = await self._ask_async(
            self._question(REGRESS_METHOD, given, signature_name, timeout), partial(first_of_examples, given)
        )
        return read_regression(outputs, len(given)).values

    def metadata(self) -> Metadata:
        """The version that answers now, and its signatures: names, types and shapes of inputs and outputs."""
        route = self._connection._linked().route(self._spec, attributes_of(self._attributes, None))
        return Metadata(route.servable, route.signatures)

    def status(self) -> tuple[VersionStatus, ...]:
        """The states of the model's versions, newest first."""
        return find_statuses(self._spec, self._connection._linked().table)

    def labels(self) -> dict[str, int]:
        """The model's labels and the version that each names, whether that is ready or not."""
        view = self._connection.status().models.get(self._spec.name)
        if view is None:
            raise NotFound(f"Could not find any versions of model {self._spec.name}")
        return dict(view.labels)

    def set_label(self, label: str, version: int) -> None:
        """Let a label name this version; returns when every gateway and caller routes by it, this one included."""
        wait(self._connection._asked().set_label(self._spec.name, label, version))

    def delete_label(self, label: str) -> None:
        """Take a label away; requests that name it are refused from then on."""
        wait(self._connection._asked().delete_label(self._spec.name, label))

    def traffic(self) -> dict[str, Traffic]:
        """How the model's requests are shared among versions, by label, and as `default` those that name none."""
        view = self._connection.status().models.get(self._spec.name)
        return {target or DEFAULT_TARGET: traffic for target, traffic in view.traffic.items()} if view else {}

    def set_traffic(
        self,
        weights: Mapping[int, float],
        *,
        sticky: str | None = None,
        audience: Sequence[Mapping[str, Any]] = (),
        mirror: Mapping[str, Any] | None = None,
    ) -> None:
        """Share the requests that name what this model was named by, a label or none, among versions.

        The weights are percentages. `sticky` is the attribute by whose value a user stays on one version; the rules of
        an `audience` come before the weights. A `mirror` has a `version` that gets copies of a `share` of the requests.
        Returns when every gateway and caller routes so.
        """
        traffic = {
            "weights": dict(weights), "sticky": sticky, "audience": [dict(rule) for rule in audience],
            "mirror": None if mirror is None else dict(mirror),
        }  # fmt: skip
        wait(self._connection._asked().set_traffic(self._spec.name, self._target(), traffic))

    def delete_traffic(self) -> None:
        """Share these requests no more."""
        wait(self._connection._asked().delete_traffic(self._spec.name, self._target()))

    def _target(self) -> str:
        if self._spec.version is not None:
            raise ValueError("requests that name a version by its number are not shared; name a label, or neither")
        return self._spec.label or DEFAULT_TARGET

    def history(self, limit: int = 100) -> tuple[Happening, ...]:
        """The newest things that happened to the model, oldest first; to one version, if this names one."""
        return self._connection.history(self._spec.name, self._spec.version, limit)

    def _question(
        self, method: str, examples: Sequence[bytes], signature_name: str, timeout: float | None
    ) -> MakeCall:
        spec, seconds = self._spec, seconds_of(timeout)
        query = ExampleQuery(spec, (Task(spec.name, signature_name or DEFAULT_SIGNATURE, method),), examples)
        api = "Classify" if method == CLASSIFY_METHOD else "Regress"
        return lambda signatures: make_call(query, signatures, timeout=seconds)._replace(api=api)

    def _ask(self, make: MakeCall, first: FirstValue) -> Prediction:
        link = self._connection._linked()
        return link.ask(self._request(link, make, first))

    async def _ask_async(self, make: MakeCall, first: FirstValue) -> Prediction:
        if not self._connection._is_linked:
            await asyncio.to_thread(self._connection._linked)
        link = self._connection._linked()
        return await across(link.call(self._request(link, make, first)))

    def _request(self, link: Link, make: MakeCall, first: FirstValue) -> Request:
        # Values are converted by whoever hands them over: on the loop of links they would keep everybody waiting.
        return link.make_request(self._spec, attributes_of(self._attributes, first), make)


def _prediction(
    given: Any, signature_name: str, outputs: Sequence[str], timeout: float | None
) -> Callable[[Mapping[str, Signature]], Call]:
    name, wanted, seconds = signature_name or DEFAULT_SIGNATURE, names_of("outputs", outputs), seconds_of(timeout)

    def make(signatures: Mapping[str, Signature]) -> Call:
        signature = find_signature(signatures, name)
        return Call(name, to_inputs(given, signature, name), select_outputs(signature, wanted), seconds)

    return make
