"""Which columns of a table are the inputs of a signature, and which columns its outputs become.

Everything that is wrong with names is told before a row is read, all of it at once where that helps.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from serving_app.core.errors import FailedPrecondition, InvalidArgument
from serving_app.core.signatures import Signature, TensorSpec
from serving_app.protocol.signature_proto import default_inputs

ERROR_COLUMN = "error"
"""Has the reason where a row has no outputs, in tables with rows that are set aside."""

Inputs = Mapping[str, str | Sequence[str]]
"""Columns by input: one, or several that stand beside each other in the input's last dimension."""

Outputs = Mapping[str, str] | Sequence[str]
"""The outputs that are wanted, and what their columns are called if not as they are."""


@dataclass(frozen=True, slots=True)
class Columns:
    """What a user says about columns. An input that is not named here has the column of its own name.

    `outputs` None means all of the signature's, by their own names; `keep` None means all columns of the rows.
    """

    inputs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    outputs: Mapping[str, str] | None = None
    keep: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns of one table: of each input, of each output that is wanted, and those that are kept."""

    inputs: Mapping[str, tuple[str, ...]]
    outputs: Mapping[str, str]
    keep: tuple[str, ...]

    @property
    def read(self) -> list[str]:
        """The columns that have to be read, each once."""
        wanted = (*self.keep, *(column for columns in self.inputs.values() for column in columns))
        return list(dict.fromkeys(wanted))


def to_columns(
    inputs: Inputs | None = None, outputs: Outputs | None = None, keep: Iterable[str] | None = None
) -> Columns:
    """What a user said, in one form. Raises InvalidArgument for what makes no sense whatever the table is."""
    if isinstance(outputs, str) or isinstance(keep, str):
        raise InvalidArgument("outputs and keep take lists of names; put the one name into a list")
    named = {alias: (column,) if isinstance(column, str) else tuple(column) for alias, column in (inputs or {}).items()}
    if empty := [alias for alias, columns in named.items() if not columns]:
        raise InvalidArgument(f"no column is given for input {empty[0]!r}; name one, or leave the input out")
    if outputs is not None and not isinstance(outputs, Mapping):
        outputs = {alias: alias for alias in outputs}
    kept = None if keep is None else tuple(dict.fromkeys(keep))
    return Columns(named, None if outputs is None else dict(outputs), kept)


def fit_columns(columns: Columns, signature: Signature, present: Sequence[str], *, reserved: Collection[str] = ()) -> (
    Layout
):
    """What the columns mean for a table that has those `present`. `reserved` are columns that are added besides.

    Raises InvalidArgument that names what is missing and what is there, and FailedPrecondition for a signature that
    does not take rows.
    """
    if twice := [name for at, name in enumerate(present) if name in present[:at]]:
        raise InvalidArgument(f"there are several columns {twice[0]!r}; give each a name of its own")
    inputs = _fit_inputs(columns.inputs, signature, present)
    outputs = _fit_outputs(columns.outputs, signature)
    keep = tuple(present) if columns.keep is None else columns.keep
    if missing := [name for name in keep if name not in present]:
        raise InvalidArgument(f"keep names {_list(missing)}, which is no column; there are {_list(present)}")
    _check_names(outputs, keep, reserved)
    for alias in inputs:
        _check_rows(f"input {alias!r}", signature.inputs[alias], "export it with a first dimension of any size")
    for alias in outputs:
        advice = "leave it out by naming the outputs that are wanted"
        _check_rows(f"output {alias!r}", signature.outputs[alias], advice)
    return Layout(inputs, outputs, keep)


def _fit_inputs(
    named: Mapping[str, tuple[str, ...]], signature: Signature, present: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    if unknown := sorted(named.keys() - signature.inputs.keys()):
        raise InvalidArgument(f"the signature has no input {_list(unknown)}; its inputs are {_list(signature.inputs)}")
    defaults = default_inputs(signature)
    inputs = {alias: named.get(alias, (alias,)) for alias in signature.inputs}
    inputs = {
        alias: columns
        for alias, columns in inputs.items()
        if alias in named or alias not in defaults or alias in present
    }
    lacking = {
        alias: [name for name in columns if name not in present] for alias, columns in inputs.items()
    }
    if missing := {alias: names for alias, names in lacking.items() if names}:
        wanted = "; ".join(f"input {alias!r} wants {_list(names)}" for alias, names in missing.items())
        raise InvalidArgument(
            f"columns are missing: {wanted}. There are {_list(present)}; tell which columns the inputs are by "
            "inputs={input: column}, or --inputs INPUT=COLUMN"
        )
    return inputs


def _fit_outputs(named: Mapping[str, str] | None, signature: Signature) -> dict[str, str]:
    outputs = {alias: alias for alias in signature.outputs} if named is None else dict(named)
    if unknown := sorted(outputs.keys() - signature.outputs.keys()):
        raise InvalidArgument(
            f"the signature has no output {_list(unknown)}; its outputs are {_list(signature.outputs)}"
        )
    if not outputs:
        raise InvalidArgument("no output is wanted; name one")
    return outputs


def _check_names(outputs: Mapping[str, str], keep: Sequence[str], reserved: Collection[str]) -> None:
    taken = {*keep, *reserved}
    for alias, column in outputs.items():
        if column in taken:
            raise InvalidArgument(
                f"the column {column!r} is there already, and output {alias!r} would take its place; give the output "
                f"another name, by outputs={{{alias!r}: NAME}} or --outputs {alias}=NAME, or do not keep the column"
            )
        taken.add(column)
    if both := [name for name in keep if name in reserved]:
        raise InvalidArgument(f"the column {both[0]!r} is there already, and its name is needed; do not keep it")


def _check_rows(what: str, spec: TensorSpec, advice: str) -> None:
    """A signature is asked for many rows at once, so the first dimension of everything has to be theirs."""
    if not spec.tensor:
        raise FailedPrecondition(f"{what} is no plain tensor (it is sparse, ragged or composite): {advice}")
    if spec.shape is not None and (not spec.shape or spec.shape[0] != -1):
        raise FailedPrecondition(f"{what} has the shape {list(spec.shape)}, and not one row for each of many: {advice}")


def _list(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in names) or "none"
