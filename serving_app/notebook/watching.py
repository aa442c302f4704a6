"""A rollout as it goes on, in one cell: a picture that is drawn again and again until it is where one wants it."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

from serving_app.client.rollouts import Metric
from serving_app.core.errors import DeadlineExceeded
from serving_app.core.rollout import Phase, Rollout
from serving_app.notebook.recorder import Recorder
from serving_app.notebook.rollout_plot import plot_rollout


def watch(
    recorder: Recorder,
    rollout: Rollout | int,
    *phases: Phase | str,
    every_s: float = 2.0,
    timeout: float | None = None,
    metrics: Mapping[str, Metric] | None = None,
) -> Rollout:
    """Show a rollout, and return it once it is in one of these phases, or decided; without phases, once it is decided.

    As `rollouts.wait` of the recorder's connection, with a picture (`plot_rollout`) that is drawn anew every so many
    seconds. Where there is no notebook, lines of text are printed instead. Interrupting the kernel ends the watching
    and nothing else.
    """
    rollouts = recorder.connection.rollouts
    number = rollout if isinstance(rollout, int) else rollout.id
    deadline = math.inf if timeout is None else time.monotonic() + timeout
    screen = _Screen()
    while True:
        left = deadline - time.monotonic()
        try:
            found = rollouts.wait(number, *phases, timeout=min(every_s, max(0.0, left)), metrics=metrics)
        except DeadlineExceeded:
            screen.show(recorder, rollouts.get(number))
            if left <= 0:
                raise
        else:
            recorder.look()
            screen.show(recorder, found)
            return found


class _Screen:
    """Where one picture takes the place of the one before."""

    def __init__(self) -> None:
        self._display: Any = None
        self._told = ""

    def show(self, recorder: Recorder, rollout: Rollout) -> None:
        if not _is_notebook():
            if str(rollout) != self._told:
                self._told = str(rollout)
                print(rollout, flush=True)
            return
        from IPython.display import display

        figure = plot_rollout(recorder.recording, rollout)
        if self._display is None:
            self._display = display(figure, display_id=True)
        else:
            self._display.update(figure)


def _is_notebook() -> bool:
    """Whether somebody looks on who can be shown pictures: not in plain Python, nor in IPython's terminal."""
    try:
        from IPython import get_ipython
    except ModuleNotFoundError:
        return False
    shell = get_ipython()
    return shell is not None and hasattr(shell, "kernel")
