"""How often the bytes of an image are copied between a replica's socket and TensorFlow, and what that costs.

    python -m benchmarks.bench_copies

For one float image of 224 x 224 x 3, and for batches of eight that come one by one: what handing it to a session's
input costs, in processor time of this process, when it lies where a lane puts it (as every large tensor does that comes
over a wire), when it lies where NumPy puts it, and what one plain copy costs. `lent` is what TensorFlow reads in
Python's memory, so that nothing was copied for it. Then the way back: an output of that size as an array.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from serving_app.host.batching import concatenate
from serving_app.protocol.lane_frames import aligned
from serving_app.runtime.tensorflow_c.library import library
from serving_app.runtime.tensorflow_c.tensor import lent_arrays, to_array, to_tensor

SHAPE = (1, 224, 224, 3)
ROUNDS = 200

Array = np.ndarray[Any, Any]


def measure(work: Callable[[], object]) -> float:
    """Microseconds that one round takes of the processor."""
    work()
    started = time.process_time()
    for _ in range(ROUNDS):
        work()
    return (time.process_time() - started) / ROUNDS * 1e6


def feed(array: Array) -> bool:
    """Make a tensor of it and free it; whether its memory was lent."""
    lib = library()
    before = lent_arrays()
    tensor = to_tensor(lib, array)
    is_lent = lent_arrays() > before
    lib.TF_DeleteTensor(tensor)
    return is_lent


def fetch(array: Array) -> Array:
    """A tensor as TensorFlow would answer it, as an array."""
    lib = library()
    dims = (ctypes.c_int64 * array.ndim)(*array.shape)
    return to_array(lib, lib.TF_AllocateTensor(1, dims, array.ndim, array.nbytes), array.dtype)


def report(what: str, work: Callable[[], object], is_lent: bool | None = None) -> None:
    """Print a line."""
    state = "" if is_lent is None else "lent" if is_lent else "copied"
    print(f"{what:52}{measure(work):10.1f} us  {state}")


def main() -> None:
    """Compare."""
    size = int(np.prod(SHAPE)) * 4
    wire = np.frombuffer(aligned(size), np.float32).reshape(SHAPE)
    elsewhere = np.zeros(SHAPE, np.float32)
    report("one image, a plain copy", elsewhere.copy)
    report("one image from a lane to a tensor", lambda: feed(wire), feed(wire))
    report("one image from NumPy's memory to a tensor", lambda: feed(elsewhere), feed(elsewhere))
    images = [wire] * 8
    report("eight images, a plain copy", lambda: np.concatenate(images))
    report("eight images joined, to a tensor", lambda: feed(concatenate(images)), feed(concatenate(images)))
    plain = np.concatenate(images)
    report(
        "eight images joined in NumPy's memory, to a tensor",
        lambda: feed(np.concatenate(images)), feed(np.concatenate(images)),
    )  # fmt: skip
    report("eight images from a tensor to an array", lambda: fetch(plain))


if __name__ == "__main__":
    main()
