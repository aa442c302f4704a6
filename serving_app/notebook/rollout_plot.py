"""A rollout as a picture: who got how many requests, how many failed, how long they took, and what was decided when."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from serving_app.core.errors import InvalidArgument
from serving_app.core.rollout import Rollout, Transition
from serving_app.core.traffic import DEFAULT_TARGET
from serving_app.notebook.drawing import GREY, label_log, new_figure, say_nothing, styles_of, tidy
from serving_app.notebook.recording import Recording, Stretch

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_AROUND_S = 5.0
"""How much of the time before and after a rollout is shown."""

_MOST_LISTED = 10

_NOTHING = "no requests in this time"

Styles = Mapping[int, Mapping[str, Any]]
Values = Sequence[float | None]


def plot_rollout(recording: Recording, rollout: Rollout | None = None, *, target: str | None = None) -> Figure:
    """What each version of a model got over time: its share of the requests, requests for each second, errors, latency.

    With a rollout only its time is shown, and what it did is marked and told below. `target` is the label, or
    `default`, whose weights are shown; by default the rollout's. Call it again to see more: what is recorded grows.
    """
    if rollout is not None and rollout.model != recording.model:
        raise InvalidArgument(f"{rollout} is none of {recording.model}, which was recorded")
    begin, end = _span(rollout)
    stretches = recording.stretches(begin, end)
    zero = stretches[0].begin if rollout is None and stretches else begin + _AROUND_S if begin else 0.0
    named = target or (rollout.target if rollout else DEFAULT_TARGET)
    marks = _shown(rollout)
    legend = [f"{number}  {_short(mark)}" for number, mark in marks]
    figure = new_figure(9, 8.2 + 0.17 * len(legend))
    panels = figure.subplots(4, 1, sharex=True)
    figure.suptitle(_title(recording, rollout), x=0.01, ha="left", fontsize=12, fontweight="bold")
    styles = styles_of(recording.versions)  # in the order in which they came, so that none changes when another comes
    seen = [each for each in recording.versions if any(stretch.requests(each) for stretch in stretches)]
    _draw_shares(panels[0], recording, stretches, styles, seen, named, zero)
    _draw_values(panels[1], stretches, styles, seen, zero, "requests per second", lambda at, each: at.rate(each), _trim)
    _draw_values(
        panels[2], stretches, styles, seen, zero, "requests that failed (%)",
        lambda at, each: _percent(at.error_share(each)),
    )  # fmt: skip
    _draw_latencies(panels[3], stretches, styles, seen, zero)
    for at, together in groupby(marks, key=lambda each: each[1].at):
        _draw_mark(panels, at - zero, [number for number, _ in together])
    if seen:
        lines = [panels[0].plot([], [], linewidth=1.2, **styles[version])[0] for version in seen]
        names = [f"version {version}" for version in seen]
        figure.legend(lines, names, loc="outside upper right", ncols=8, frameon=False, fontsize=8.5)
    panels[3].set_xlabel("seconds since the rollout began" if rollout else "seconds")
    if legend:
        figure.supxlabel("\n".join(legend), x=0.01, ha="left", fontsize=8.5, color=GREY)
    return figure


def _span(rollout: Rollout | None) -> tuple[float | None, float | None]:
    """The time that is shown; all of it without a rollout."""
    if rollout is None:
        return None, None
    return rollout.begun - _AROUND_S, None if rollout.is_active else rollout.transitions[-1].at + _AROUND_S


def _title(recording: Recording, rollout: Rollout | None) -> str:
    if rollout is None:
        return recording.model
    change = f"version {rollout.from_version} to {rollout.to_version}"
    return f"{rollout.model}, {rollout.target}: {change}, {rollout.phase.value}"


def _shown(rollout: Rollout | None) -> Sequence[tuple[int, Transition]]:
    """The last things that a rollout did, with their numbers."""
    transitions = rollout.transitions if rollout else ()
    return list(enumerate(transitions, start=1))[-_MOST_LISTED:]


def _short(mark: Transition) -> str:
    return textwrap.shorten(mark.what, 125, placeholder=" …")


def _draw_shares(
    axes: Axes,
    recording: Recording,
    stretches: Sequence[Stretch],
    styles: Styles,
    seen: Sequence[int],
    target: str,
    zero: float,
) -> None:
    """What the weights want as steps, and what was measured as points."""
    tidy(axes, f"share of the requests (%): points as measured, lines as wanted for {target}")
    looks = recording.between(stretches[0].begin, stretches[-1].end) if stretches else ()
    times = [look.at - zero for look in looks]
    for version in recording.versions:
        weights = [look.weights.get(target, {}).get(version, 0.0) for look in looks]
        if any(weights):
            color = styles[version]["color"]
            axes.plot(times, _gaps(_trim(weights)), drawstyle="steps-post", color=color, linewidth=1.2)
    for version in seen:
        shares = _trim([_percent(stretch.share(version)) for stretch in stretches])
        axes.plot(_middles(stretches, zero), _gaps(shares), linestyle="", **styles[version])
    axes.set_ylim(-4, 122)  # with room for the numbers of marks
    axes.set_yticks(range(0, 101, 25))
    if not looks:
        say_nothing(axes, _NOTHING)


def _draw_values(
    axes: Axes,
    stretches: Sequence[Stretch],
    styles: Styles,
    seen: Sequence[int],
    zero: float,
    title: str,
    value: Callable[[Stretch, int], float | None],
    read: Callable[[Values], Values] = list,
) -> None:
    tidy(axes, title)
    for version in seen:
        values = _gaps(read([value(stretch, version) for stretch in stretches]))
        axes.plot(_middles(stretches, zero), values, linewidth=1.2, **styles[version])
    axes.set_ylim(0, max(1.0, axes.get_ylim()[1]))
    if not seen:
        say_nothing(axes, _NOTHING)


def _draw_latencies(
    axes: Axes, stretches: Sequence[Stretch], styles: Styles, seen: Sequence[int], zero: float
) -> None:
    tidy(axes, "latency (ms): the median as a line, 99 of 100 below the dashes")
    for version in seen:
        times = _middles(stretches, zero)
        medians = _gaps([stretch.latency(version, 0.5) for stretch in stretches])
        highest = _gaps([stretch.latency(version, 0.99) for stretch in stretches])
        axes.plot(times, medians, linewidth=1.2, **styles[version])
        axes.plot(times, highest, linewidth=1.0, linestyle="--", color=styles[version]["color"], alpha=0.8)
    if not seen:
        say_nothing(axes, _NOTHING)
        return
    axes.set_yscale("log")
    label_log(axes)


def _draw_mark(panels: Sequence[Axes], at: float, numbers: Sequence[int]) -> None:
    for axes in panels:
        axes.axvline(at, color=GREY, linestyle=":", linewidth=1)
    panels[0].annotate(
        ", ".join(map(str, numbers)), (at, 1), xycoords=("data", "axes fraction"), xytext=(1, -1),
        textcoords="offset points", fontsize=8, color=GREY, va="top",
    )  # fmt: skip


def _middles(stretches: Sequence[Stretch], zero: float) -> list[float]:
    return [(stretch.begin + stretch.end) / 2 - zero for stretch in stretches]


def _trim(values: Values) -> Values:
    """Without the zeros that are not beside anything else: a version that has nothing to do is not drawn."""
    around = [None, *values, None]
    return [
        value if value or before or after else None
        for before, value, after in zip(around, values, around[2:], strict=False)
    ]


def _gaps(values: Values) -> list[float]:
    """Values with gaps where there are none."""
    return [float("nan") if value is None else value for value in values]


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share
