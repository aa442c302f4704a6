"""An A/B test as a picture: what each version achieved, by how much they differ, and whether the split was sound."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from serving_app.core.errors import InvalidArgument
from serving_app.core.evidence import Share
from serving_app.core.proportions import Difference, compare, interval_of, split_p_value
from serving_app.notebook.drawing import GREY, new_figure, styles_of, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MISMATCH = 0.001
"""Below this p-value a split is not what was wanted. It is asked of every test, so it is stricter than usual."""


def plot_split(
    results: Mapping[int, Share],
    *,
    weights: Mapping[int, float] | None = None,
    measure: str = "success",
    confidence: float = 0.95,
) -> Figure:
    """Successes of each version's samples with their intervals, and the difference of each to the first version.

    With `weights` it is also told whether the samples are shared out as these want it. `measure` says what succeeded.
    """
    if len(results) < 2:
        raise InvalidArgument("a split has at least two versions; give the results of each")
    versions = sorted(results)
    if empty := [str(version) for version in versions if not results[version].of]:
        raise InvalidArgument(f"version {' and '.join(empty)} has no samples yet, so there is nothing to compare")
    styles = styles_of(versions)
    figure = new_figure(9, 1.9 + 0.55 * len(versions))
    shares, differences = figure.subplots(1, 2, width_ratios=[1.2, 1])
    tidy(shares, f"{measure} (%), with {confidence:.0%} intervals")
    for place, version in enumerate(versions):
        share, style = results[version], styles[version]
        interval = interval_of(share, confidence)
        _draw(shares, place, share.value, interval.low, interval.high, style["color"], style["marker"])
    _name(shares, [f"version {each}\n{results[each].count:.0f} of {results[each].of:.0f}" for each in versions])
    first = versions[0]
    tidy(differences, f"difference to version {first} (percentage points)")
    differences.axvline(0, color=GREY, linewidth=1)
    others = versions[1:]
    for place, version in enumerate(others):
        found = compare(results[first], results[version], confidence)
        style = styles[version]
        _draw(differences, place, found.value, found.interval.low, found.interval.high, style["color"], style["marker"])
        differences.annotate(
            _told(found), (0.5, place), xycoords=("axes fraction", "data"), xytext=(0, 8), textcoords="offset points",
            ha="center", fontsize=8.5,
        )  # fmt: skip
    _name(differences, [f"version {each}" for each in others])
    if weights is not None:
        text, is_sound = _told_of_split(results, weights)
        figure.supxlabel(text, x=0.01, ha="left", fontsize=9, color=GREY if is_sound else "#D55E00")
    return figure


def _draw(axes: Axes, place: int, value: float, low: float, high: float, color: str, marker: str) -> None:
    spread = [[100 * (value - low)], [100 * (high - value)]]
    axes.errorbar(100 * value, place, xerr=spread, fmt=marker, color=color, capsize=4, markersize=7)


def _name(axes: Axes, names: list[str]) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)


def _told(difference: Difference) -> str:
    return f"p = {difference.p_value:.2g}{'' if difference.is_sure else ', could be chance'}"


def _told_of_split(results: Mapping[int, Share], weights: Mapping[int, float]) -> tuple[str, bool]:
    p_value = split_p_value({version: share.of for version, share in results.items()}, weights)
    wanted = " to ".join(f"{weights[version]:g}" for version in sorted(weights))
    if p_value is None:
        return f"too few samples to say whether they are shared out {wanted}", True
    if p_value < _MISMATCH:
        return f"the samples are not shared out {wanted} (p = {p_value:.2g}): do not believe the rest", False
    return f"the samples are shared out {wanted}, as far as can be told (p = {p_value:.2g})", True
