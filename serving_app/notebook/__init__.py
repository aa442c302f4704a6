"""What notebooks need besides calling models: apps that begin and end in a cell, load, recordings, pictures, numbers.

    from serving_app.notebook import Load, Recorder, digit_versions, start_app, watch

    app = start_app({"digits": {"base_path": digit_versions(), "labels": {"stable": 1}}})
    recorder = Recorder(app.connection, "digits")
    watch(recorder, app.connection.rollouts.start("digits", 2, target="stable", strategy="careful"))
    app.stop()
"""

from serving_app.core.evidence import Share
from serving_app.core.proportions import compare, interval_of, needed_samples, split_p_value
from serving_app.notebook.differences_plot import plot_differences
from serving_app.notebook.load import Answer, Load, Visitor
from serving_app.notebook.local_app import LocalApp, start_app
from serving_app.notebook.recorder import Recorder
from serving_app.notebook.recording import Recording
from serving_app.notebook.rollout_plot import plot_rollout
from serving_app.notebook.samples import demo_models, digit_versions
from serving_app.notebook.split_plot import plot_split
from serving_app.notebook.watching import watch

__all__ = [
    "Answer",
    "Load",
    "LocalApp",
    "Recorder",
    "Recording",
    "Share",
    "Visitor",
    "compare",
    "demo_models",
    "digit_versions",
    "interval_of",
    "needed_samples",
    "plot_differences",
    "plot_rollout",
    "plot_split",
    "split_p_value",
    "start_app",
    "watch",
]
