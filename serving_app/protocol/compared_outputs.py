"""The outputs of two versions for the same requests, compared: many requests at a time, as that costs little more.

What comes out are counts that add up (see `serving_app.core.comparison`), and for each request whether both said the
same. Values are the same if they are within the output's tolerance of what the first version said; numbers with
fractions have the usual one where none is given, and all else has to be equal. NaN is the same as NaN.

Large outputs are compared piece by piece: it takes several times the memory of what is compared at once, and other
threads have their turn in between.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate
from typing import Any

import numpy as np

from serving_app.core.comparison import Agreement, Kind, Side
from serving_app.core.families import MIRROR_DIFFERENCE, MIRROR_OUTPUTS, MIRROR_SCORES, MIRROR_TOP
from serving_app.core.metrics import Family, Labels, Registry
from serving_app.core.traffic import Tolerance
from serving_app.protocol.calls import Outputs

_Array = np.ndarray[Any, Any]

_USUAL = Tolerance()

_AT_ONCE = 1 << 15
"""Values that are compared at once."""

_FINITE, _SMALLEST = np.finfo(np.float64).max, np.finfo(np.float64).smallest_subnormal


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
        """Add these values to a histogram. None counts as more than its largest limit, as no number does: a sum of
        them is finite. That sum is of their sizes, as whoever computes rates expects that no sum falls."""
        limits = _limits(family)
        most = limits[-1]
        values = np.fmax(np.fmin(values, most), -most)
        found = np.bincount(limits.searchsorted(values, side="right"), minlength=len(limits) + 1)
        cell = [*map(float, found.tolist()), float(np.abs(values).sum())]
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
        given = [pairs[place][0][output].reshape(-1) for place in places]
        other = [pairs[place][1][output].reshape(-1) for place in places]
        different = _compare_values(compared, output, tolerances.get(output), kind, (given, other))
        compared.count(MIRROR_OUTPUTS, output, Agreement.DIFFERENT, len(different))
        compared.count(MIRROR_OUTPUTS, output, Agreement.SAME, len(places) - len(different))
        for number in different:
            compared.agreements[places[number]] = Agreement.DIFFERENT
        if kind == "fraction":
            _compare_scores(compared, output, (given, other), scores)
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


_Arrays = list[_Array]


def _portions(given: _Arrays, other: _Arrays, unit: int = 1) -> Iterator[tuple[list[int], _Arrays, _Arrays]]:
    """All values, in portions that are compared at once: the requests that they are of, by number, each of which is
    there once in a portion. What is cut is cut at multiples of a unit, and no portion is smaller than one."""
    if sum([array.size for array in given]) <= _AT_ONCE:  # mostly
        yield list(range(len(given))), given, other
        return
    numbers: list[int] = []
    some: tuple[_Arrays, _Arrays] = [], []
    room = most = max(_AT_ONCE // unit, 1) * unit
    for number, array in enumerate(given):
        start = 0
        while start < array.size:
            end = min(array.size, start + room)
            numbers.append(number)
            some[0].append(array[start:end])
            some[1].append(other[number][start:end])
            start, room = end, room - (end - start)
            if not room:
                yield numbers, *some
                numbers, some, room = [], ([], []), most
    if numbers:
        yield numbers, *some


def _in_a_row(arrays: _Arrays) -> _Array:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _compare_values(
    compared: Compared, output: str, tolerance: Tolerance | None, kind: str, both: tuple[_Arrays, _Arrays]
) -> list[int]:
    """The requests, by number, of which some value differs."""
    requests = len(both[0])
    differs = np.zeros(requests, bool)
    absolute, relative = np.zeros(requests), np.zeros(requests)
    is_measured = kind not in ("text", "bool") and (kind != "integer" or tolerance is not None)
    for numbers, given, other in _portions(*both):
        starts = list(accumulate([array.size for array in given[:-1]], initial=0))
        values, others = _in_a_row(given), _in_a_row(other)
        if is_measured:
            beyond, difference, part = _measure(values, others, kind, tolerance or _USUAL)
            absolute[numbers] = np.maximum(absolute[numbers], np.maximum.reduceat(difference, starts))
            relative[numbers] = np.maximum(relative[numbers], np.maximum.reduceat(part, starts))
        else:
            beyond = np.asarray(values != others, bool)
        differs[numbers] |= np.logical_or.reduceat(beyond, starts)
    if is_measured:
        compared.observe(MIRROR_DIFFERENCE, output, Kind.ABSOLUTE, absolute)
        compared.observe(MIRROR_DIFFERENCE, output, Kind.RELATIVE, relative)
    return np.flatnonzero(differs).tolist()


def _measure(given: _Array, other: _Array, kind: str, tolerance: Tolerance) -> tuple[_Array, _Array, _Array]:
    """Of each value whether it is beyond the tolerance, by how much it differs, and by which part; NaN where that is no
    number."""
    with np.errstate(all="ignore"):
        if kind == "integer":
            difference, size = _distance(given, other), np.abs(given.astype(np.float64))
        else:
            if kind == "fraction":
                given, other = given.astype(np.float64), other.astype(np.float64)
            difference, size = np.abs(given - other), np.abs(given)
            if not np.isfinite(difference.max()):
                difference[(given == other) | (np.isnan(given) & np.isnan(other))] = 0.0
        # What is not finite is within no tolerance of anything but itself.
        within = difference <= np.minimum(tolerance.absolute + tolerance.relative * size, _FINITE)
        within |= difference == 0.0  # where the size is no number
        return ~within, difference, difference / np.fmax(size, _SMALLEST)


def _distance(given: _Array, other: _Array) -> _Array:
    """How far integers are from one another: as exactly as doubles may be, also where they themselves are not."""
    low, high = np.minimum(given, other), np.maximum(given, other)
    if low.dtype.kind == "f":  # there is no type for both
        return np.asarray(high - low)
    distance: _Array = high.astype(np.uint64) - low.astype(np.uint64)
    return distance.astype(np.float64)


def _compare_scores(compared: Compared, output: str, both: tuple[_Arrays, _Arrays], scores: int) -> None:
    """How the scores are distributed, and where each row has several, whether the same one is the highest."""
    for _, some, others in _portions(*both, scores):
        given, other = _in_a_row(some), _in_a_row(others)
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
        compared.observe(MIRROR_SCORES, output, Side.VERSION, given.astype(np.float64))
        compared.observe(MIRROR_SCORES, output, Side.CANDIDATE, other.astype(np.float64))
