"""The tensors of copies: what they hold in memory, and that they hold no more than that."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Tensors = Mapping[str, Array]

_SAMPLED = 256


def about_bytes(tensors: Tensors) -> int:
    """About what these hold. Of many strings some are looked at: to look at all could take milliseconds."""
    return sum([_about_bytes(array) if array.dtype.kind == "O" else array.nbytes for array in tensors.values()])


def _about_bytes(strings: Array) -> int:
    some = strings.reshape(-1)[:: strings.size // _SAMPLED + 1]
    return (16 + sum([len(each) for each in some]) // max(1, len(some))) * strings.size


def kept(tensors: Tensors) -> dict[str, Array]:
    """These, none of which keeps much more memory than its own: small ones may look into all that came with them."""
    return {name: array if _is_alone(array) else array.copy() for name, array in tensors.items()}


def _is_alone(array: Array) -> bool:
    if array.base is None:
        return True
    owner: Any = array.base
    while isinstance(owner, np.ndarray) and owner.base is not None:
        owner = owner.base
    if isinstance(owner, np.ndarray):
        return bool(owner.nbytes <= 2 * array.nbytes)
    try:
        memory = memoryview(owner)
    except TypeError:  # a tensor of a library's, which is one
        return True
    return memoryview(memory.obj).nbytes <= 2 * array.nbytes


def doubled(tensors: Tensors) -> dict[str, Array]:
    """The same in memory of their own: whoever has these may change them."""
    return {name: array.copy() for name, array in tensors.items()}
