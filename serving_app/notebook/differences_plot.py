"""What copies of requests have shown of a candidate, as a picture, beside the version whose answers the clients got."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from serving_app.core.comparison import Comparison, OutputComparison, Side
from serving_app.core.evidence import Share, find_quantile
from serving_app.core.families import MIRROR_SCORES
from serving_app.core.proportions import interval_of
from serving_app.notebook.drawing import GREY, label_log, new_figure, say_nothing, styles_of, tidy
from serving_app.notebook.recording import Look, Recording, copies_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_STRETCHES = 60
_KINDS = {"same": "#56B4E9", "different": "#E69F00", "not both answered": "#000000"}
_WIDTH = 0.4
"""Of a bar; there are two beside one another."""


def plot_differences(recording: Recording, version: int, candidate: int) -> Figure:
    """How a candidate answered the requests that a version was asked: copies over time and what became of them, how
    often each output was different, how the scores of both are distributed, and how long both took.
    """
    looks = recording.between()
    comparison = recording.copies(version, candidate)
    figure = new_figure(9, 6.4)
    (over_time, by_output), (scores, latency) = figure.subplots(2, 2, width_ratios=[1.15, 1])
    figure.suptitle(
        f"{recording.model}: {comparison.requests:.0f} requests for version {version}, copied to version {candidate}",
        x=0.01, ha="left", fontsize=12, fontweight="bold",
    )  # fmt: skip
    versions = list(dict.fromkeys([*recording.versions, version, candidate]))
    styles = {each: style["color"] for each, style in styles_of(versions).items()}
    _draw_over_time(over_time, looks, version, candidate)
    _draw_outputs(by_output, comparison)
    _draw_scores(scores, comparison, {Side.VERSION: version, Side.CANDIDATE: candidate}, styles)
    _draw_latency(latency, comparison, {Side.VERSION: version, Side.CANDIDATE: candidate}, styles)
    return figure


def _draw_over_time(axes: Axes, looks: Sequence[Look], version: int, candidate: int) -> None:
    from matplotlib.patches import Patch

    tidy(axes, "copies per second, by what became of them")
    looks = _with_copies(looks, version, candidate)
    if not looks:
        say_nothing(axes, "no copies in this time")
        return
    for before, after in pairwise([*looks[: -1 : -(-len(looks) // _MOST_STRETCHES)], looks[-1]]):
        grown = copies_of(after, version, candidate).since(copies_of(before, version, candidate))
        counts = (grown.compared - grown.different, grown.different, grown.requests - grown.compared)
        took, bottom = after.at - before.at, 0.0
        for count, color in zip(counts, _KINDS.values(), strict=True):
            axes.bar(
                before.at - looks[0].at, count / took, took, bottom=bottom, color=color, align="edge", linewidth=0
            )
            bottom += count / took
    axes.set_xlabel("seconds")
    axes.set_ylim(0, 1.25 * axes.get_ylim()[1])
    axes.legend(
        [Patch(color=color) for color in _KINDS.values()], list(_KINDS), loc="upper left", ncols=3, frameon=False,
        fontsize=8.5,
    )  # fmt: skip


def _with_copies(looks: Sequence[Look], version: int, candidate: int) -> Sequence[Look]:
    """The looks from the last one before the first copy to the first one after the last."""
    made = [copies_of(look, version, candidate).requests for look in looks]
    grown = [place for place, (before, after) in enumerate(pairwise(made)) if after > before]
    return looks[grown[0] : grown[-1] + 2] if grown else ()


def _draw_outputs(axes: Axes, comparison: Comparison) -> None:
    tidy(axes, "different answers, by output (%)")
    rows = [row for name, each in comparison.outputs.items() for row in _shares(name, each)]
    rows.append(("failed, only the candidate", Share(comparison.failed, comparison.answered)))
    rows = [(name, share) for name, share in rows if share.of]
    if not rows:
        say_nothing(axes, "nothing was compared")
        return
    for place, (name, share) in enumerate(rows):
        interval = interval_of(share)
        spread = [[100 * (share.value - interval.low)], [100 * (interval.high - share.value)]]
        axes.errorbar(100 * share.value, place, xerr=spread, fmt="o", color=GREY, ecolor=GREY, capsize=3)
        axes.annotate(
            f"{name}: {100 * share.value:.3g} % of {share.of:.0f}", (0, place), xycoords=("axes fraction", "data"),
            xytext=(2, 9), textcoords="offset points", fontsize=8.5,
        )  # fmt: skip
    axes.set_yticks([])
    axes.set_ylim(len(rows) - 0.4, -0.9)
    axes.set_xlim(-2, 102)


def _shares(name: tuple[str, str], output: OutputComparison) -> Sequence[tuple[str, Share]]:
    """An output's differences: of requests, and of rows by the highest score."""
    same, different = output.same, output.different + output.unlike
    signature, label = name
    full = label if signature == "serving_default" else f"{label} of {signature}"
    tops = Share(output.top_different, output.top_same + output.top_different)
    return [(full, Share(different, same + different)), (f"{full}, the highest", tops)]


def _draw_scores(axes: Axes, comparison: Comparison, sides: Mapping[Side, int], colors: Mapping[int, str]) -> None:
    """Those of the output that has changed most."""
    drifting = [(each.drift, name, each) for (_, name), each in comparison.outputs.items() if each.drift is not None]
    if not drifting:
        tidy(axes, "distribution of the values (%)")
        say_nothing(axes, "no values were compared")
        return
    drift, name, output = max(drifting, key=lambda each: each[0])
    tidy(axes, f"distribution of {name} (%): drift {drift:.2g}")
    counts = {Side.VERSION: output.scores, Side.CANDIDATE: output.candidate_scores}
    used = [place for place in range(len(output.scores)) if any(each[place] for each in counts.values())]
    for offset, (side, each) in zip((-_WIDTH / 2, _WIDTH / 2), counts.items(), strict=True):
        places = [place + offset for place in range(len(used))]
        heights = [100 * each[place] / sum(each) for place in used]
        axes.bar(places, heights, _WIDTH, color=colors[sides[side]], label=f"version {sides[side]}")
    shown = range(0, len(used), -(-len(used) // 8))
    axes.set_xticks(list(shown), [_bucket(used[place]) for place in shown], rotation=30, ha="right", fontsize=8)
    axes.legend(frameon=False, fontsize=8.5)


def _bucket(place: int) -> str:
    limits = MIRROR_SCORES.limits
    if place == 0:
        return f"< {limits[0]:.3g}"
    if place == len(limits):
        return f"≥ {limits[-1]:.3g}"
    return f"{limits[place - 1]:.3g} to {limits[place]:.3g}"


def _draw_latency(axes: Axes, comparison: Comparison, sides: Mapping[Side, int], colors: Mapping[int, str]) -> None:
    tidy(axes, "latency of the calls (ms), by quantile")
    quantiles = (0.5, 0.9, 0.99)
    heights: list[float] = []
    for offset, (side, version) in zip((-_WIDTH / 2, _WIDTH / 2), sides.items(), strict=True):
        values = [find_quantile(comparison.latency(side), quantile) for quantile in quantiles]
        known = [value for value in values if value is not None]
        if not known:
            continue
        heights += known
        places = [place + offset for place in range(len(quantiles))]
        bars = axes.bar(places, known, _WIDTH, color=colors[version], label=f"version {version}")
        axes.bar_label(bars, fmt="%.2g", fontsize=8)
    if not heights:
        say_nothing(axes, "no copies succeeded")
        return
    axes.set_xticks(range(len(quantiles)), [f"{100 * quantile:g} %" for quantile in quantiles])
    axes.set_yscale("log")
    axes.set_ylim(min(heights) / 3, max(heights) * 3)
    label_log(axes)
    axes.legend(frameon=False, fontsize=8.5)
