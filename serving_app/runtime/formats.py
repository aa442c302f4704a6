"""The platform `tensorflow`: a version is a SavedModel, or a TFLite file where the model prefers it.

As in TensorFlow Serving both go by one name, and it is the version's files that decide. Neither format's library is
opened before a version in that format is loaded.
"""

from __future__ import annotations

import importlib
from pathlib import Path

from serving_app.core.errors import FailedPrecondition
from serving_app.runtime.loader import Loader, LoadOptions, Servable

TFLITE_FILE = "model.tflite"
"""Where a TFLite model lies below a version's directory (saved_model_bundle_factory.cc)."""


class TensorFlowLoader:
    """Loads SavedModels and TFLite models."""

    def load(self, path: str, options: LoadOptions) -> Servable:
        """Load the version in this local directory, ready to answer."""
        if options.prefer_tflite and Path(path, TFLITE_FILE).is_file():
            return _tflite_loader().load(str(Path(path, TFLITE_FILE)), options)
        from serving_app.runtime.saved_model import SavedModelLoader

        return SavedModelLoader().load(path, options)


def _tflite_loader() -> Loader:
    try:
        loader: Loader = importlib.import_module("serving_app.runtime.tflite").TfliteLoader()
    except ImportError as error:
        raise FailedPrecondition(
            f"The version has a {TFLITE_FILE}, and its model says prefer_tflite, but what runs it is not installed "
            f"({error}): install serving-app[tflite] wherever the model is to run."
        ) from error
    return loader
