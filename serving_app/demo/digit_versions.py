"""Makes versions of a model to roll out and to compare: `python -m serving_app.demo.digit_versions DIRECTORY`.

Below the directory there are afterwards, of the classifier of digits that `serving_app.demo.models` makes,

    1     one that was trained for a moment only
    2     one that was trained well
    3     one trained well, that takes images to be scaled otherwise than they are: it is often wrong
    4     one trained well, which gives up on bright images
    images.npz    images that none of them was trained on, and what they show (`images`, `labels`)

What is there already stays as it is.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from serving_app.demo.models import import_tensorflow, load_digits, make_whole, train_classifier

IMAGES = "images.npz"

_HELD_OUT = 600
_SHORT, _LONG = 20, 400
"""Steps of training."""


def make(directory: Path, report: Callable[[str], None] = print) -> None:
    """Makes what is missing below `directory`, and reports one line for each version."""
    directory.mkdir(parents=True, exist_ok=True)
    images, labels = load_digits()
    if not (directory / IMAGES).exists():
        import numpy as np

        np.savez(directory / IMAGES, images=images[:_HELD_OUT], labels=labels[:_HELD_OUT])
    makers: dict[str, Callable[[Path], str]] = {
        "1": lambda path: _save(path, images, labels, steps=_SHORT),
        "2": lambda path: _save(path, images, labels),
        "3": lambda path: _save(path, images, labels, see=lambda _tf, image: image / 16.0),
        "4": lambda path: _save(path, images, labels, see=_give_up_when_bright),
    }
    for name, save in makers.items():
        version = directory / name
        report(f"{name}: {'is there' if version.exists() else make_whole(version, save)}")


def _give_up_when_bright(tf: Any, image: Any) -> Any:
    """The image, unless it is among the brightest third or so."""
    with tf.control_dependencies([tf.debugging.assert_less(tf.reduce_mean(image), 5.2, "the image is too bright")]):
        return tf.identity(image)


def _see(_tf: Any, image: Any) -> Any:
    """The image as it comes."""
    return image


def _save(
    path: Path, images: Any, labels: Any, *, steps: int = _LONG, see: Callable[[Any, Any], Any] = _see
) -> str:
    """Saves a classifier to which every image goes through `see` first."""
    tf = import_tensorflow()
    module = train_classifier(tf, images[_HELD_OUT:], labels[_HELD_OUT:], steps)

    @tf.function(input_signature=[tf.TensorSpec([None, 64], tf.float32, name="image")])
    def predict(image: Any) -> Any:
        scores = tf.nn.softmax(module.logits(see(tf, image)))
        return {"scores": scores, "digit": tf.argmax(scores, axis=1, output_type=tf.int64)}

    tf.saved_model.save(module, str(path), signatures={"serving_default": predict})
    answers = [_read(tf, predict, image) for image in images[:_HELD_OUT]]
    failed = sum(answer is None for answer in answers)
    right = sum(answer == label for answer, label in zip(answers, labels[:_HELD_OUT], strict=True))
    return f"right on {right / _HELD_OUT:.1%} of {_HELD_OUT} images it has not seen, fails on {failed / _HELD_OUT:.1%}"


def _read(tf: Any, predict: Any, image: Any) -> int | None:
    try:
        return int(predict(image[None])["digit"][0])
    except tf.errors.InvalidArgumentError:
        return None


def main(arguments: list[str]) -> None:
    """Runs the command."""
    if len(arguments) != 1:
        raise SystemExit("usage: python -m serving_app.demo.digit_versions DIRECTORY")
    try:
        make(Path(arguments[0]))
    except OSError as error:
        raise SystemExit(f"The versions cannot be made: {error}; give a directory to write to") from error


if __name__ == "__main__":
    main(sys.argv[1:])
