"""Pictures as notebooks show them, in any of them: what all plots have in common.

Figures are made without matplotlib's `pyplot`, so nothing depends on what a notebook has set up, and nothing that it
draws itself is touched. matplotlib comes with the extra `notebook`, and is imported when something is drawn.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from serving_app.core.errors import FailedPrecondition

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Told apart by people who are colour-blind (Okabe and Ito), and so are the markers by everybody, in print."""
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")

GREY = "#666666"


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches, that a notebook shows as a picture where it is a cell's last line."""
    return _figure_class()(figsize=(width, height), layout="constrained")  # type: ignore[no-any-return]


@cache
def _figure_class() -> Any:
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "matplotlib":
            raise
        raise FailedPrecondition(
            "matplotlib is not installed, which draws the plots: pip install 'serving-app[notebook]'"
        ) from error

    class Picture(Figure):
        """A figure that is a picture by itself."""

        def _repr_png_(self) -> bytes:
            image = io.BytesIO()
            self.savefig(image, format="png", dpi=90)
            return image.getvalue()

    return Picture


def styles_of(versions: Sequence[int]) -> Mapping[int, Mapping[str, Any]]:
    """How each version is drawn, the same in all plots of one recording."""
    return {
        version: {"color": _COLORS[place % len(_COLORS)], "marker": _MARKERS[place % len(_MARKERS)], "markersize": 4}
        for place, version in enumerate(versions)
    }


def tidy(axes: Axes, title: str) -> None:
    """A title at the left, a light grid, and no frame but the lines that have numbers."""
    axes.set_title(title, loc="left", fontsize=10)
    axes.grid(visible=True, alpha=0.25)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def say_nothing(axes: Axes, why: str) -> None:
    """Tell in a plot why it is empty."""
    axes.text(0.5, 0.5, why, transform=axes.transAxes, ha="center", va="center", color=GREY)
    axes.set_yticks([])
    if len(axes.get_shared_x_axes().get_siblings(axes)) == 1:
        axes.set_xticks([])


def label_log(axes: Axes) -> None:
    """Write plain numbers at a logarithmic axis, as many as there is room for."""
    from matplotlib.ticker import LogLocator, NullFormatter

    low, high = axes.get_ylim()
    decades = math.log10(high / low)
    digits = (1, 2, 3, 4, 5, 6, 8) if decades < 0.8 else (1, 2, 5) if decades < 2 else (1,)
    axes.yaxis.set_major_locator(LogLocator(subs=digits))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
