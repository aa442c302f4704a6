"""Arrays to tensors and back: what is copied, what is lent, and who frees it."""

from __future__ import annotations

import ctypes
import gc
import struct

import numpy as np
import pytest

from serving_app.runtime.tensorflow_c.library import Library, library
from serving_app.runtime.tensorflow_c.tensor import (
    LEND_FROM,
    VIEW_FROM,
    lent_arrays,
    read_strings,
    to_array,
    to_tensor,
)
from tests.runtime.ledger import keep_ledger


@pytest.fixture
def lib() -> Library:
    """TensorFlow's library."""
    return library()


def placed(size: int, lib: Library, *, aligned: bool) -> np.ndarray:
    """Bytes at an address that TensorFlow can read in place, or one that it cannot."""
    room = np.arange(size + 2 * lib.alignment, dtype=np.uint64).astype(np.uint8)
    start = -room.ctypes.data % lib.alignment + (0 if aligned else 1)
    return room[start : start + size]


@pytest.mark.parametrize(
    ("size", "aligned", "lent"),
    [(LEND_FROM, True, 1), (LEND_FROM, False, 0), (LEND_FROM - 1, True, 0)],
)
def test_large_aligned_inputs_are_lent_not_copied(lib: Library, size: int, aligned: bool, lent: int) -> None:
    """TensorFlow reads a large, aligned array where it is and gives it back when the tensor is freed."""
    array = placed(size, lib, aligned=aligned)
    tensor = to_tensor(lib, array)
    assert lent_arrays() == lent
    assert (lib.TF_TensorData(tensor) == array.ctypes.data) == bool(lent)
    lib.TF_DeleteTensor(tensor)
    assert lent_arrays() == 0


@pytest.mark.parametrize("size", [0, 1, VIEW_FROM - 1, VIEW_FROM, LEND_FROM])
def test_values_survive_the_way_there_and_back(
    lib: Library, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """An array comes back equal, and its tensor is freed: at once if it was copied, else with the last look at it."""
    array = placed(size, lib, aligned=True)
    ledger = keep_ledger(monkeypatch)
    back = to_array(lib, to_tensor(lib, array), array.dtype)
    assert len(ledger.alive) == (size >= VIEW_FROM)
    part = back[: size // 2]
    assert back.tolist() == array.tolist()
    del back
    assert len(ledger.alive) == (size >= VIEW_FROM)
    assert part.tolist() == array[: size // 2].tolist()
    del part
    gc.collect()
    assert ledger.alive == {}
    assert lent_arrays() == 0


def test_what_a_view_looks_at_stays(lib: Library) -> None:
    """An array that was lent lives as long as a view on its tensor, also when nobody else holds it."""
    array = placed(LEND_FROM, lib, aligned=True)
    right = array.tolist()
    view = to_array(lib, to_tensor(lib, array), array.dtype)
    del array
    gc.collect()
    assert lent_arrays() == 1
    assert view.tolist() == right
    del view
    assert lent_arrays() == 0


def test_strings_are_read_however_they_are_kept(lib: Library) -> None:
    """A string may lie in its record, on the heap, be a view of other memory, or lie at an offset from its record."""
    text = ctypes.create_string_buffer(b"somewhere else")
    address, size = ctypes.addressof(text), len(text.value)
    records = [
        struct.pack("<B23s", 3 << 2 | 0, b"abc and what is left over"),
        struct.pack("<QQQ", size << 2 | 1, 31, address),
        struct.pack("<QQQ", 9 << 2 | 3, address, 0),
        struct.pack("<III12x", 4 << 2 | 2, 24, 1),
        b"next" + bytes(20),
    ]
    memory = ctypes.create_string_buffer(b"".join(records))
    read = read_strings(lib, ctypes.addressof(memory), 4)
    assert read == [b"abc", b"somewhere else", b"somewhere", b"next"]
