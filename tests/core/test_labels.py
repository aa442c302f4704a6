"""Which versions a label may be given to."""

from __future__ import annotations

import pytest

from serving_app.core.errors import FailedPrecondition
from serving_app.core.labels import check_labels

AVAILABLE = {1, 2}


@pytest.mark.parametrize(
    ("wanted", "before", "allow_unavailable"),
    [
        pytest.param({}, {"stable": 9}, False, id="no labels"),
        pytest.param({"stable": 1, "canary": 2}, {}, False, id="all available"),
        pytest.param({"stable": 2}, {"stable": 1}, False, id="moved to an available one"),
        pytest.param({"stable": 1, "also": 1}, {"stable": 9}, True, id="two on one version"),
        pytest.param({"next": 9}, {}, True, id="new and allowed to wait"),
        pytest.param({"next": 9}, {"stable": 1}, True, id="new beside another one"),
        pytest.param({"next": 9}, {"next": 9}, True, id="stays where it waits"),
    ],
)
def test_labels_that_may_be_given(wanted: dict[str, int], before: dict[str, int], allow_unavailable: bool) -> None:
    """An available version may have any label; with the option a new or unmoved label may wait for its version."""
    check_labels("m", wanted, before, AVAILABLE, allow_unavailable)


@pytest.mark.parametrize(
    ("wanted", "before", "allow_unavailable"),
    [
        pytest.param({"next": 9}, {}, False, id="new, not allowed to wait"),
        pytest.param({"next": 9}, {"next": 9}, False, id="unmoved, not allowed to wait"),
        pytest.param({"next": 9}, {"next": 1}, True, id="moved from where it answers"),
        pytest.param({"next": 9}, {"next": 8}, True, id="moved while it waits"),
        pytest.param({"stable": 1, "next": 9}, {}, False, id="one of two"),
    ],
)
def test_labels_that_may_not(wanted: dict[str, int], before: dict[str, int], allow_unavailable: bool) -> None:
    """The error is TensorFlow Serving's, and names the version that cannot answer."""
    with pytest.raises(FailedPrecondition) as caught:
        check_labels("m", wanted, before, AVAILABLE, allow_unavailable)
    assert str(caught.value) == (
        "Request to assign label to version 9 of model m, which is not currently available for inference"
    )
