"""The cluster's key-value store as a dictionary of this process."""

from __future__ import annotations

import pytest

from serving_app import ray_private


def keep_here(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """From now on, what is kept in the cluster is kept in this dictionary."""
    kept: dict[str, bytes] = {}
    monkeypatch.setattr(ray_private, "put_state", kept.__setitem__)
    monkeypatch.setattr(ray_private, "get_state", kept.get)
    monkeypatch.setattr(ray_private, "delete_state", lambda key: kept.pop(key, None))
    monkeypatch.setattr(ray_private, "list_state", lambda prefix: [key for key in kept if key.startswith(prefix)])
    return kept
