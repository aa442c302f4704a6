"""The outputs of two versions for the same requests, compared: many requests at a time, as that costs little more.

What comes out are counts that add up (see `serving_app.core.comparison`), and for each request whether both said the
same. Values are the same if they are within the output's tolerance of what the first version said; numbers with
fractions have the usual one where none is given, and all else has to be equal. NaN is the same as NaN.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from serving_app.core.comparison import Agreement, Kind, Side
from serving_app.core.families import MIRROR_DIFFERENCE, MIRROR_OUTPUTS, MIRROR_SCORES, MIRROR_TOP
from serving_app.core.metrics import Family, Labels, Registry
from serving_app.core.traffic import Tolerance
from serving_app.protocol.calls import Outputs

_Array = np.ndarray[Any, Any]

_USUAL = Tolerance()


@dataclass
class Compared:
    """What was found out. `agreements` has one for each pair of outputs; the rest is by output, and labels of ours."""

    agreements: list[Agreement]
    counts: dict[tuple[str, str, str], int] = field(default_factory=dict)
    """By family, output and label."""
    cells: dict[tuple[str, str, str], list[float]] = field(default_factory=dict)
    """Of histograms, in the same way."""

    def count(self, family: Family, output: str, label: str, by: int) -> None:
        """Let a counter grow."""
        if by:
            key = family.name, output, str(label)
            self.counts[key] = self.counts.get(key, 0) + by

    def observe(self, family: Family, output: str, label: str, values: _Array) -> None:
        """Add these values to a histogram; those that no histogram could add up count as its largest limit. Its sum is
        that of their sizes, as whoever computes rates expects that no sum falls."""
        limits = _limits(family)
        values = np.nan_to_num(values, nan=limits[-1], posinf=limits[-1], neginf=-limits[-1])
        found = np.bincount(np.searchsorted(limits, values, side="right"), minlength=len(limits) + 1)
        cell = [*map(float, found), float(np.abs(values).sum())]
        key = family.name, output, str(label)
        known = self.cells.get(key)
        self.cells[key] = cell if known is None else [now + then for now, then in zip(cell, known, strict=True)]

    def tell(self, registry: Registry, pair: Labels, signature: str) -> None:
        """Count it all, for this pair of versions."""
        families = {each.name: each for each in (MIRROR_OUTPUTS, MIRROR_TOP, MIRROR_DIFFERENCE, MIRROR_SCORES)}
        for (name, output, label), by in self.counts.items():
            registry.count(families[name], (*pair, signature, output, label), by)
        for (name, output, label), cell in self.cells.items():
            registry.add_observed(families[name], (*pair, signature, output, label), cell)


@lru_cache
def _limits(family: Family) -> _Array:
    return np.asarray(family.limits)


def compare_outputs(pairs: Sequence[tuple[Outputs, Outputs]], tolerances: Mapping[str, Tolerance]) -> Compared:
    """Compare what a version and a candidate have answered to each of some requests for one signature.

    Outputs that the candidate has besides do not matter to those who ask the version.
    """
    compared = Compared([Agreement.SAME] * len(pairs))
    for (output, kind, scores), places in _group(compared, pairs).items():
        arrays = [(pairs[place][0][output], pairs[place][1][output]) for place in places]
        both = _flat([real for real, _ in arrays], kind), _flat([copy for _, copy in arrays], kind)
        starts = np.cumsum([0, *(real.size for real, _ in arrays[:-1])])
        differs = _compare(compared, output, tolerances.get(output), both, kind, starts)
        different = np.flatnonzero(differs).tolist()
        compared.count(MIRROR_OUTPUTS, output, Agreement.DIFFERENT, len(different))
        compared.count(MIRROR_OUTPUTS, output, Agreement.SAME, len(places) - len(different))
        for place in different:
            compared.agreements[places[place]] = Agreement.DIFFERENT
        if kind == "fraction":
            _compare_scores(compared, output, both, scores)
    return compared


def _group(
    compared: Compared, pairs: Sequence[tuple[Outputs, Outputs]]
) -> dict[tuple[str, str, int], list[int]]:
    """The places of the pairs whose values can be put in a row, by output, kind, and scores in a row. What needs no
    look at values is counted here."""
    groups: dict[tuple[str, str, int], list[int]] = {}
    for place, (real, copy) in enumerate(pairs):
        for output, array in real.items():
            match = copy.get(output)
            kind = _kind(array)
            if match is None or match.shape != array.shape or _kind(match) != kind:
                compared.agreements[place] = Agreement.DIFFERENT
                compared.count(MIRROR_OUTPUTS, output, Agreement.UNLIKE, 1)
            elif not array.size:
                compared.count(MIRROR_OUTPUTS, output, Agreement.SAME, 1)
            else:
                scores = array.shape[-1] if array.ndim > 1 else 1
                groups.setdefault((output, kind, scores), []).append(place)
    return groups


def _kind(array: _Array) -> str:
    """What matters of an element type: float32 and float64 are compared like each other."""
    kind = array.dtype.kind
    if kind == "f" or (kind == "V" and array.dtype.names is None):  # V: bfloat16 and its like
        return "fraction"
    if kind in "iu":
        return "integer"
    return {"c": "complex", "b": "bool"}.get(kind, "text")


def _flat(arrays: Iterable[_Array], kind: str) -> _Array:
    """All values in a row."""
    flat = np.concatenate([array.reshape(-1) for array in arrays])
    return flat.astype(np.float64) if kind == "fraction" else flat


def _compare(
    compared: Compared, output: str, tolerance: Tolerance | None, both: tuple[_Array, _Array], kind: str,
    starts: _Array,
) -> _Array:
    """For each request, whose values begin at these places, whether they differ."""
    given, other = both
    if kind in ("text", "bool") or (kind == "integer" and tolerance is None):
        return _any(np.asarray(given != other, bool), starts)
    if kind == "integer":
        given, other = given.astype(np.float64), other.astype(np.float64)
    tolerance = tolerance or _USUAL
    with np.errstate(all="ignore"):
        same = (given == other) | (np.isnan(given) & np.isnan(other))
        difference = np.where(same, 0.0, np.abs(given - other))
        difference = np.where(np.isnan(difference), np.inf, difference)
        size = np.abs(given)
        # What is not finite is within no tolerance of anything but itself.
        within = same | (np.isfinite(difference) & (difference <= tolerance.absolute + tolerance.relative * size))
        relative = np.where(same, 0.0, difference / size)
    compared.observe(MIRROR_DIFFERENCE, output, Kind.ABSOLUTE, np.maximum.reduceat(difference, starts))
    compared.observe(MIRROR_DIFFERENCE, output, Kind.RELATIVE, np.maximum.reduceat(relative, starts))
    return _any(~within, starts)


def _any(differs: _Array, starts: _Array) -> _Array:
    found: _Array = np.logical_or.reduceat(differs, starts)
    return found


def _compare_scores(compared: Compared, output: str, both: tuple[_Array, _Array], scores: int) -> None:
    """How the scores are distributed, and where each row has several, whether the same one is the highest."""
    given, other = both
    if scores > 1:
        given, other = given.reshape(-1, scores), other.reshape(-1, scores)
        rows = np.arange(len(given))
        first, second = given.argmax(axis=1), other.argmax(axis=1)
        top, other_top = given[rows, first], other[rows, second]
        # Where several are the highest, each of them will do.
        same = (first == second) | (other[rows, first] == other_top) | (given[rows, second] == top)
        compared.count(MIRROR_TOP, output, Agreement.SAME, int(same.sum()))
        compared.count(MIRROR_TOP, output, Agreement.DIFFERENT, len(same) - int(same.sum()))
        given, other = top, other_top
    compared.observe(MIRROR_SCORES, output, Side.VERSION, given)
    compared.observe(MIRROR_SCORES, output, Side.CANDIDATE, other)
