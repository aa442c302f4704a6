"""What is made of the models that a training job has in hand, and what a caller may say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from serving_app import publish
from serving_app.core.errors import FailedPrecondition, InvalidArgument
from serving_app.publishing.export import exported
from serving_app.publishing.soundness import check_version, list_version


class Half(tf.Module):
    """Halves numbers."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def halve(self, x: Any) -> Any:
        return {"y": x / 2}


def test_a_module_is_exported() -> None:
    """A tf.Module becomes a SavedModel with the signatures that are given, for as long as it is needed."""
    module = Half()
    with exported(module, {"serving_default": module.halve}) as path:
        assert "serving_default" in check_version(path, list_version(path))
    assert not path.exists()


def test_a_keras_model_is_exported() -> None:
    """A Keras model becomes a SavedModel with its own signature."""
    model = tf.keras.Sequential([tf.keras.layers.Input([1], name="x"), tf.keras.layers.Dense(1)])
    with exported(model) as path:
        assert list(check_version(path, list_version(path))["serving_default"].inputs) == ["x"]
    with pytest.raises(InvalidArgument, match="a signature of its own"), exported(model, {"other": None}):
        pass


@pytest.mark.parametrize(
    ("model", "signatures", "error", "words"),
    [
        (object(), None, InvalidArgument, "object is no model that can be published; give the directory"),
        (None, None, InvalidArgument, "NoneType is no model"),
        ("/models/m/1", {"a": 1}, InvalidArgument, "a finished model has its signatures"),
        (Half(), {"serving_default": 1}, FailedPrecondition, "Half could not be exported: ValueError"),
    ],
)
def test_what_cannot_be_exported_is_refused(model: Any, signatures: Any, error: type[Exception], words: str) -> None:
    """What is no model, and what the exporter refuses, ends in an error that says so."""
    with pytest.raises(error, match=words), exported(model, signatures):
        pass


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "say where the version is to go"),
        ({"name": "", "base_path": "/m"}, "say where the version is to go"),
        ({"base_path": "/m", "wait": True}, "give its name, too"),
        ({"base_path": "/m", "labels": "canary"}, "give its name, too"),
        ({"base_path": "/m", "add": True}, "give its name, too"),
        ({"name": "m", "labels": [""]}, "labels are texts"),
        ({"base_path": "/m", "version": -1}, "a version is a number"),
        ({"base_path": "/m", "version": 2**63}, "a version is a number"),
        ({"base_path": "/m", "version": True}, "a version is a number"),
        ({"base_path": "/m", "version": 1.0}, "a version is a number"),
        ({"base_path": "/m", "version": "3"}, "a version is a number"),
        ({"base_path": Path("s3://b/m")}, "begins with s3://"),
        ({"base_path": "/m", "timeout": "soon"}, "timeout must be a number of seconds"),
        ({"base_path": "/m", "timeout": float("nan")}, "timeout must be a number of seconds"),
        ({"base_path": "/m", "warmup": {"x": [1.0]}}, "put the one request into a list"),
        ({"base_path": "/m", "metadata": ["loss"]}, "metadata is a mapping"),
        ({"base_path": "/m", "done_marker": "../DONE"}, "done_marker is the name of a file"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(tmp_path: Path, arguments: dict[str, Any], words: str) -> None:
    """What cannot be done is said before anything is."""
    with pytest.raises(InvalidArgument, match=words):
        publish(tmp_path, **arguments)
