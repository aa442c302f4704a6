"""Pictures: that they say what was recorded, whatever that is, also nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from serving_app.core.errors import FailedPrecondition, InvalidArgument
from serving_app.core.evidence import Counts, Share
from serving_app.core.rollout import Phase, Rollout
from serving_app.notebook import Recording, drawing, plot_differences, plot_rollout, plot_split
from tests.notebook.scenes import comparison, counts, recording, rollout


def texts(figure: Figure) -> list[str]:
    """All that a figure says, once it is laid out."""
    figure.draw_without_rendering()
    found = figure.findobj(lambda each: isinstance(each, Text) and each.get_visible() and bool(each.get_text()))
    return [each.get_text() for each in found]  # type: ignore[attr-defined]


def lines(axes: Axes) -> dict[str, list[float]]:
    """The values of each solid or dashed line by its colour and style, those that are not there left out."""
    return {
        f"{line.get_color()} {line.get_linestyle()} {line.get_marker()}": [
            float(value) for value in line.get_ydata() if value == value
        ]
        for line in axes.lines
        if line.get_linestyle() != ":" and len(line.get_ydata())
    }


CANARY = recording(
    {1: counts(100)}, {1: counts(100)}, {1: counts(90), 2: counts(10, 5)}, {1: counts(50), 2: counts(50, 25)},
    {1: Counts(), 2: counts(100, 50)}, {2: counts(100)},
    weights=[{1: 100}, {1: 100}, {1: 90, 2: 10}, {1: 50, 2: 50}, {1: 0, 2: 100}, {1: 0, 2: 100}],
)  # fmt: skip
DONE = rollout(
    Phase.PROMOTED, (0.0, "started"), (1.0, "version 2 is ready"), (1.0, "step 1: weight 10 %"), (4.0, "promoted")
)
BLUE, RED = "#0072B2", "#D55E00"


def test_a_rollout_is_drawn_as_it_was() -> None:
    """Shares as measured and as wanted, rates, errors and latencies of both versions, and what was done when."""
    figure = plot_rollout(CANARY, DONE)
    shares, rates, errors, latencies = figure.axes
    assert lines(shares)[f"{BLUE} - None"] == [100, 100, 90, 50, 0]
    assert lines(shares)[f"{RED} None s"] == [0, 10, 50, 100, 100]
    assert lines(rates) == {f"{BLUE} - o": [100, 90, 50, 0], f"{RED} - s": [0, 10, 50, 100, 100]}
    assert lines(errors) == {f"{BLUE} - o": [0, 0, 0], f"{RED} - s": [50, 50, 50, 0]}
    assert lines(latencies).keys() == {f"{BLUE} - o", f"{BLUE} -- None", f"{RED} - s", f"{RED} -- None"}
    said = texts(figure)
    assert "digits, stable: version 1 to 2, promoted" in said
    assert {"version 1", "version 2", "seconds since the rollout began"} <= set(said)
    assert {"1", "2, 3", "4"} <= set(said)
    assert "1  started\n2  version 2 is ready\n3  step 1: weight 10 %\n4  promoted" in said


def test_without_a_rollout_everything_is_drawn() -> None:
    """What was recorded is there from the first look to the last, by the weights of the target that is named."""
    shares = plot_rollout(CANARY, target="stable").axes[0]
    assert lines(shares)[f"{RED} - None"] == [0, 10, 50, 100, 100]
    assert lines(plot_rollout(CANARY).axes[0]).keys() == {f"{BLUE} None o", f"{RED} None s"}


@pytest.mark.parametrize(
    "found",
    [
        Recording("digits"), recording({1: counts(10)}), recording({1: Counts()}, {1: Counts()}),
        recording({1: Counts()}, {1: Counts()}, weights=[{1: 100}, {1: 100}]),
    ],
    ids=["nothing", "one look", "no requests", "only weights"],
)  # fmt: skip
def test_an_empty_recording_says_so(found: Recording) -> None:
    """Where nothing was asked, the picture says that."""
    assert "no requests in this time" in texts(plot_rollout(found))


@pytest.mark.parametrize("when", [DONE, rollout(Phase.WAITING)], ids=["done", "waiting"])
def test_a_rollout_without_a_recording_says_so(when: Rollout) -> None:
    """Nothing recorded in the time of a rollout is no error, before it did anything and afterwards."""
    assert "no requests in this time" in texts(plot_rollout(Recording("digits"), when))


def test_a_rollout_of_another_model_is_refused() -> None:
    """A picture never shows one model's requests beside another's rollout."""
    with pytest.raises(InvalidArgument, match=r"rollout 7 of digits, stable: .* is none of other, which was recorded"):
        plot_rollout(Recording("other"), DONE)


def test_one_stretch_is_drawn_as_points() -> None:
    """Two looks make one point for each version, with a scale that can be read."""
    figure = plot_rollout(recording({1: Counts()}, {1: counts(9, 0, 3.0), 2: counts(1, 1)}))
    assert lines(figure.axes[1]) == {f"{BLUE} - o": [9], f"{RED} - s": [1]}
    figure.draw_without_rendering()
    assert any(label.get_text() for label in figure.axes[3].get_yticklabels())


def test_many_versions_and_long_stories_fit() -> None:
    """Of a long story the last ten lines are told, shortened; every version has a look of its own."""
    story = [(float(number), f"step {number}: {'long ' * 60}") for number in range(30)]
    figure = plot_rollout(recording({}, {number: counts(5) for number in range(1, 12)}), rollout(Phase.FAILED, *story))
    listed = next(each for each in texts(figure) if each.startswith("21  step 20: "))
    assert [line[-1] for line in listed.splitlines()] == ["…"] * 10
    handles = figure.legends[0].legend_handles
    assert len({(each.get_color(), each.get_marker()) for each in handles}) == 7  # type: ignore[union-attr]


def test_differences_are_drawn_as_they_were() -> None:
    """Copies by what became of them, the part of each output that differed, scores, and latencies of both."""
    copies = [comparison(), comparison(same=30), comparison(same=60, different=20, failed=10), comparison(60, 20, 10)]
    figure = plot_differences(recording({}, {1: counts(9)}, {}, {}, copies=copies), 1, 2)
    over_time, outputs, scores, latency = figure.axes
    assert [bar.get_height() for bar in over_time.patches[:6]] == [30, 0, 0, 30, 20, 10]
    said = texts(figure)
    assert "digits: 90 requests for version 1, copied to version 2" in said
    named = {each.partition(":")[0]: each.partition(": ")[2] for each in said if " % of " in each}
    assert named == {
        "scores": "25 % of 80", "scores, the highest": "25 % of 80", "digit of other": "25 % of 80",
        "failed, only the candidate": "11.1 % of 90",
    }  # fmt: skip
    assert scores.get_title(loc="left").startswith("distribution of scores (%): drift ")
    assert sum(bar.get_height() for bar in scores.patches) == pytest.approx(200)
    assert len(latency.patches) == 6
    assert outputs.get_xlim()[0] < 0


@pytest.mark.parametrize(
    ("copies", "said"),
    [
        ([], "no copies in this time"),
        ([comparison(), comparison(failed=5)], "no values were compared"),
        ([comparison(same=5), comparison(same=5)], "nothing was compared"),
    ],
    ids=["no copies", "none succeeded", "none lately"],
)
def test_too_little_to_compare_says_so(copies: list[Any], said: str) -> None:
    """Where nothing was copied or compared, the picture says that."""
    assert said in texts(plot_differences(recording(*({} for _ in copies), copies=copies), 1, 2))


RESULTS = {1: Share(720, 800), 2: Share(770, 810)}


@pytest.mark.parametrize(
    ("results", "weights", "said"),
    [
        (RESULTS, {1: 50, 2: 50}, "the samples are shared out 50 to 50, as far as can be told (p = 0.8)"),
        (RESULTS, {1: 90, 2: 10}, "the samples are not shared out 90 to 10 (p = 0): do not believe the rest"),
        (RESULTS, None, "p = 0.00011"),
        ({1: Share(1, 2), 2: Share(1, 2)}, {1: 5, 2: 5}, "too few samples to say whether they are shared out 5 to 5"),
        ({1: Share(1, 2), 2: Share(1, 2)}, None, "p = 1, could be chance"),
        ({1: Share(7, 8), 4: Share(0, 9), 2: Share(9, 9)}, None, "version 4\n0 of 9"),
    ],
)
def test_a_split_is_drawn(results: dict[int, Share], weights: dict[int, float] | None, said: str) -> None:
    """Shares and differences with their intervals, and a word on whether the split was as wanted."""
    figure = plot_split(results, weights=weights, measure="right readings")
    assert said in texts(figure)
    assert "right readings (%), with 95% intervals" in texts(figure)
    shares, differences = figure.axes
    assert len(shares.containers) == len(results)
    assert len(differences.containers) == len(results) - 1


@pytest.mark.parametrize(
    ("results", "why"),
    [({1: Share(1, 2)}, "at least two versions"), ({1: Share(1, 2), 2: Share()}, "version 2 has no samples yet")],
)
def test_splits_that_cannot_be_compared(results: dict[int, Share], why: str) -> None:
    """One version, or one without samples, is no comparison."""
    with pytest.raises(InvalidArgument, match=why):
        plot_split(results)


def test_notebooks_get_a_picture() -> None:
    """A figure as the last line of a cell is a PNG, and nothing was done to matplotlib's own state of the notebook."""
    before = "matplotlib.pyplot" in sys.modules
    picture: Any = plot_split(RESULTS)
    assert picture._repr_png_().startswith(b"\x89PNG\r\n")
    assert ("matplotlib.pyplot" in sys.modules) is before


DRAW: list[Callable[[], object]] = [
    lambda: plot_rollout(CANARY), lambda: plot_differences(CANARY, 1, 2), lambda: plot_split(RESULTS)
]  # fmt: skip


@pytest.mark.parametrize("draw", DRAW)
def test_a_missing_library_is_told(draw: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without matplotlib, drawing says what to install; recording and statistics need none."""
    drawing._figure_class.cache_clear()
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    try:
        with pytest.raises(FailedPrecondition, match=r"pip install 'serving-app\[notebook\]'"):
            draw()
    finally:
        drawing._figure_class.cache_clear()
