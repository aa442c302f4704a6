"""All that a worker has to be told to score rows: one version, one signature, which columns.

    pinned = pin("fraud", label="stable", inputs={"x": ["amount", "age"]}, outputs={"score": "fraud_score"})

It is made once, by whoever starts the work, and handed to every worker. So all rows are scored by one version, wherever
its label moves meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from serving_app.core.errors import InvalidArgument
from serving_app.core.servable import ModelSpec, ServableId, spec_of
from serving_app.core.signatures import DEFAULT_SIGNATURE, Signature
from serving_app.data.columns import ERROR_COLUMN, Columns, Inputs, Layout, Outputs, fit_columns, to_columns
from serving_app.data.finding import Found, How, find_served, find_stored
from serving_app.host import Warmup
from serving_app.protocol.predict_checks import find_signature

OnError = Literal["fail", "set_aside"]
"""What becomes of the work when a row cannot be scored: it fails and names some of them, or the row is set aside."""

ROWS_PER_CALL = 256
MAX_IN_FLIGHT = 4
TIMEOUT_S = 300.0


@dataclass(frozen=True)
class Pinned:
    """What to score rows with."""

    found: Found
    how: How
    app: str
    signature_name: str
    columns: Columns = field(default_factory=Columns)
    on_error: OnError = "fail"
    rows_per_call: int = ROWS_PER_CALL
    max_in_flight: int = MAX_IN_FLIGHT
    timeout: float = TIMEOUT_S

    @property
    def servable(self) -> ServableId:
        """The version."""
        return self.found.servable

    def fit(self, present: Sequence[str], signatures: Mapping[str, Signature] | None = None) -> Layout | None:
        """The columns of a table that has those `present`; None while nobody has told the version's signatures.

        Raises InvalidArgument or FailedPrecondition that says what does not fit.
        """
        signatures = signatures or self.found.signatures
        if signatures is None:
            return None
        reserved = (ERROR_COLUMN,) if self.on_error == "set_aside" else ()
        signature = find_signature(signatures, self.signature_name)
        return fit_columns(self.columns, signature, present, reserved=reserved)

    def with_cpus(self, count: int) -> Pinned:
        """The same for a worker that has so many CPUs, unless the model's settings say how many threads it has."""
        assignment = self.found.assignment
        if assignment is None:
            return self
        load = assignment.load
        load = replace(
            load,
            intra_op_parallelism=count if load.intra_op_parallelism is None else load.intra_op_parallelism,
            inter_op_parallelism=count if load.inter_op_parallelism is None else load.inter_op_parallelism,
        )
        return replace(self, found=replace(self.found, assignment=replace(assignment, load=load)))


def pin(
    model: str | None = None,
    *,
    version: int | None = None,
    label: str | None = None,
    app: str = "default",
    address: str | None = None,
    base_path: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
    how: How = "local",
    signature_name: str = DEFAULT_SIGNATURE,
    inputs: Inputs | None = None,
    outputs: Outputs | None = None,
    keep: Iterable[str] | None = None,
    on_error: OnError = "fail",
    rows_per_call: int = ROWS_PER_CALL,
    max_in_flight: int = MAX_IN_FLIGHT,
    timeout: float = TIMEOUT_S,
) -> Pinned:
    """Decide which version scores rows, and how; see docs/batch.md for each argument. Blocks.

    Raises InvalidArgument for arguments that make no sense together, what a request of that kind would raise for a
    model, version or label that is not there, and Unavailable where no cluster or no serving app is found.
    """
    if version is not None and label is not None:
        raise InvalidArgument("a version and a label are two ways to say the same; give one of them")
    try:
        spec = spec_of(model or "model", version, label)
    except (TypeError, ValueError) as error:
        raise InvalidArgument(str(error)) from error
    if how not in ("local", "live"):
        raise InvalidArgument(f"how is 'local' or 'live', and not {how!r}")
    if on_error not in ("fail", "set_aside"):
        raise InvalidArgument(f"on_error is 'fail' or 'set_aside', and not {on_error!r}")
    if min(rows_per_call, max_in_flight) < 1 or not timeout > 0:
        raise InvalidArgument("rows_per_call, max_in_flight and timeout have to be above 0")
    columns = to_columns(inputs, outputs, keep)
    if base_path is not None:
        if label is not None or how == "live":
            raise InvalidArgument(
                "labels and live calls are of a serving app, and a base path is read without one; leave base_path out"
            )
        found = find_stored(model, base_path, spec.version, storage_options)
    else:
        if model is None:
            raise InvalidArgument("name a model, or give the base_path of one")
        found = _find_served(app, address, spec, how)
    if found.assignment is not None:
        # Nobody waits for the first rows, and all that come together are one run as it is.
        assignment = replace(
            found.assignment, warmup=Warmup(enabled=False), batching=None, batching_from_version=False
        )
        found = replace(found, assignment=assignment)
    pinned = Pinned(found, how, app, signature_name, columns, on_error, rows_per_call, max_in_flight, timeout)
    if found.signatures is not None:
        find_signature(found.signatures, signature_name)
    return pinned


def _find_served(app: str, address: str | None, spec: ModelSpec, how: How) -> Found:
    from serving_app.client.control import Control, join_cluster

    join_cluster(address)
    return find_served(Control(app), spec, how)
