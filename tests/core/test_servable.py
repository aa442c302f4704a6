"""How callers name a servable."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from serving_app.core.servable import ModelSpec, spec_of


def test_a_model_is_named_with_a_version_or_a_label() -> None:
    """Whole numbers of any kind are versions."""
    assert spec_of("m") == ModelSpec("m")
    assert spec_of("m", version=np.int64(7)) == ModelSpec("m", 7)
    assert type(spec_of("m", version=np.int64(7)).version) is int
    assert spec_of("m", label="stable") == ModelSpec("m", None, "stable")


@pytest.mark.parametrize(
    ("named", "error", "says"),
    [
        (("m", 1, "stable"), ValueError, "name a version or a label, not both"),
        (("m", "1"), TypeError, "a version is a whole number, and not '1'"),
        (("m", 1.0), TypeError, "a version is a whole number"),
        (("m", -1), ValueError, "from 0 to"),
        (("m", 2**63), ValueError, "from 0 to"),
        ((None,), TypeError, "a model's name is text, and not None"),
        (("m", None, 3), TypeError, "a label is text, and not 3"),
    ],
)
def test_what_names_nothing_is_refused(named: Any, error: type[Exception], says: str) -> None:
    """A version that is a text would be one that there is not, and nobody would see why."""
    with pytest.raises(error, match=says):
        spec_of(*named)
