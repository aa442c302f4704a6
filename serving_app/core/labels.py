"""Which versions a label may be given to while the system runs."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from serving_app.core.errors import FailedPrecondition


def check_labels(
    model: str,
    wanted: Mapping[str, int],
    before: Mapping[str, int],
    available: Collection[int],
    allow_unavailable: bool,
) -> None:
    """Raise TensorFlow Serving's error (server_core.cc, UpdateModelVersionLabelMap) unless every label may be given.

    A label may name an available version. With `allow_unavailable` a label that is new for the model, or that stays
    where it was, may name any version; one that users follow already never moves to a version that cannot answer.
    """
    for label, version in wanted.items():
        may_wait = allow_unavailable and before.get(label, version) == version
        if version not in available and not may_wait:
            raise FailedPrecondition(
                f"Request to assign label to version {version} of model {model}, which is not currently available for "
                "inference"
            )
