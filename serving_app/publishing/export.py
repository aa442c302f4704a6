"""A SavedModel out of whatever a training job has in hand.

TensorFlow is never imported here: whoever has a model of TensorFlow's or Keras's has imported it, and nobody else needs
it.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from serving_app.core.errors import FailedPrecondition, InvalidArgument, ServingError

_KERAS = {"keras", "tf_keras"}
_TENSORFLOW = "tensorflow"


@contextmanager
def exported(model: Any, signatures: Any = None) -> Iterator[Path]:
    """A directory of this machine with the model as a SavedModel, for the length of the block.

    A path is taken as it is. Raises InvalidArgument for what is no model, and FailedPrecondition, with the exporter's
    own words, for a model that cannot be exported.
    """
    if isinstance(model, str | os.PathLike):
        if signatures is not None:
            raise InvalidArgument("a finished model has its signatures; give signatures= with a tf.Module only")
        yield Path(model)
        return
    packages = {kind.__module__.partition(".")[0] for kind in type(model).__mro__}
    with tempfile.TemporaryDirectory(prefix="serving-app-export-") as folder:
        path = Path(folder, "model")
        try:
            if packages & _KERAS:
                _export_keras(model, path, signatures)
            elif _TENSORFLOW in packages:
                sys.modules[_TENSORFLOW].saved_model.save(model, str(path), signatures=signatures)
            else:
                raise InvalidArgument(
                    f"{type(model).__name__} is no model that can be published; give the directory of a SavedModel, a "
                    "Keras model or a tf.Module"
                )
        except ServingError:
            raise
        except Exception as error:
            raise FailedPrecondition(
                f"{type(model).__name__} could not be exported: {type(error).__name__}: {error}"
            ) from error
        yield path


def _export_keras(model: Any, path: Path, signatures: Any) -> None:
    if signatures is not None:
        raise InvalidArgument(
            "a Keras model is exported with a signature of its own; for others export it by keras.export.ExportArchive "
            "and publish the directory"
        )
    model.export(str(path), verbose=False)
