"""Makes the models of the demo: `python -m serving_app.demo.models DIRECTORY`.

Below the directory there are afterwards

    ready/half_plus_two/1     y = x / 2 + 2
    ready/digits/1            which digit is it? An image of 8 x 8 grey values in, ten scores and the digit out
    staged/half_plus_two/2    y = x / 2 + 3, to be copied into ready/half_plus_two while it is served

What is there already stays as it is. Each version appears under its name only when it is complete, so a server may
watch `ready` all the while. This is a tool that makes models, and so the one part of the package that uses
TensorFlow's Python API; run it in a process of its own.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

READY = "ready"
STAGED = "staged"


def make(directory: Path, report: Callable[[str], None] = print) -> None:
    """Makes what is missing below `directory`, and reports one line for each version."""
    versions: dict[str, Callable[[Path], str]] = {
        f"{READY}/half_plus_two/1": lambda path: _save_half_plus(path, 2.0),
        f"{STAGED}/half_plus_two/2": lambda path: _save_half_plus(path, 3.0),
        f"{READY}/digits/1": _save_digits,
    }
    for name, save in versions.items():
        version = directory / name
        what = "is there" if version.exists() else make_whole(version, save)
        report(f"{name}: {what}")


def make_whole(version: Path, save: Callable[[Path], str]) -> str:
    """Saves a version beside its place and moves it in as a whole."""
    version.parent.mkdir(parents=True, exist_ok=True)
    # No number, so that no server takes it for a version.
    part = version.with_name(f"making-{version.name}-{os.getpid()}")
    try:
        what = save(part)
        part.rename(version)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return what


def import_tensorflow() -> Any:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        import tensorflow
    except ImportError as error:
        raise SystemExit("Making models needs TensorFlow: pip install 'serving-app[cpu]'") from error
    return tensorflow


def _save_half_plus(path: Path, offset: float) -> str:
    tf = import_tensorflow()
    module = tf.Module()
    module.factor = tf.Variable(0.5, name="factor")
    module.offset = tf.Variable(offset, name="offset")

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def predict(x: Any) -> Any:
        return {"y": x * module.factor + module.offset}

    tf.saved_model.save(module, str(path), signatures={"serving_default": predict})
    return f"y = x / 2 + {offset:g}"


def _save_digits(path: Path) -> str:
    tf = import_tensorflow()
    images, labels = load_digits()
    held_out = len(images) // 5
    module = train_classifier(tf, images[held_out:], labels[held_out:])

    @tf.function(input_signature=[tf.TensorSpec([None, 64], tf.float32, name="image")])
    def predict(image: Any) -> Any:
        scores = tf.nn.softmax(module.logits(image))
        return {"scores": scores, "digit": tf.argmax(scores, axis=1, output_type=tf.int64)}

    right = tf.equal(predict(images[:held_out])["digit"], labels[:held_out])
    tf.saved_model.save(module, str(path), signatures={"serving_default": predict})
    return f"accuracy {tf.reduce_mean(tf.cast(right, tf.float32)):.3f} on {held_out} images it has not seen"


def load_digits() -> tuple[Any, Any]:
    """The digits that come with scikit-learn: images as rows of 64 grey values from 0 to 16, in a fixed mixed order."""
    try:
        import numpy as np
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise SystemExit("The digits need scikit-learn: pip install 'serving-app[demo]'") from error
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(images))
    return images[order].astype(np.float32), labels[order].astype(np.int64)


def train_classifier(tf: Any, images: Any, labels: Any, steps: int = 400) -> Any:
    """A classifier with one hidden layer, trained on all images at once by gradient steps with momentum."""
    tf.random.set_seed(0)
    module = tf.Module()
    module.hidden = tf.Variable(tf.random.normal([64, 48], stddev=0.2), name="hidden")
    module.hidden_bias = tf.Variable(tf.zeros([48]), name="hidden_bias")
    module.output = tf.Variable(tf.random.normal([48, 10], stddev=0.2), name="output")
    module.output_bias = tf.Variable(tf.zeros([10]), name="output_bias")
    module.logits = lambda image: (
        tf.nn.relu(image / 16.0 @ module.hidden + module.hidden_bias) @ module.output + module.output_bias
    )
    weights = module.trainable_variables
    speeds = [tf.Variable(tf.zeros_like(weight)) for weight in weights]

    @tf.function
    def step() -> None:
        with tf.GradientTape() as tape:
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, module.logits(images))
            loss = tf.reduce_mean(losses)
        for weight, speed, slope in zip(weights, speeds, tape.gradient(loss, weights), strict=True):
            speed.assign(0.9 * speed - 0.2 * slope)
            weight.assign_add(speed)

    for _ in range(steps):
        step()
    return module


def main(arguments: list[str]) -> None:
    """Runs the command."""
    if len(arguments) != 1:
        raise SystemExit("usage: python -m serving_app.demo.models DIRECTORY")
    try:
        make(Path(arguments[0]))
    except OSError as error:
        raise SystemExit(f"The models of the demo cannot be made: {error}; give a directory to write to") from error


if __name__ == "__main__":
    main(sys.argv[1:])
