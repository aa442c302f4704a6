"""Looking for a Ray cluster, where Ray itself would wait for ever."""

from __future__ import annotations

import socket

import pytest

from serving_app import ray_private


def test_a_cluster_that_is_gone_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """An address at which nobody listens counts as no cluster, whether it is named or found; a live one is found."""
    with socket.socket() as gcs:
        gcs.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{gcs.getsockname()[1]}"
        monkeypatch.delenv("RAY_ADDRESS", raising=False)
        assert ray_private.find_cluster(address) is None
        monkeypatch.setenv("RAY_ADDRESS", address)
        assert ray_private.find_cluster(None) is None
        gcs.listen()
        assert ray_private.find_cluster(None) == address


def test_addresses_of_another_kind_are_left_to_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is no host and port is not probed."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert ray_private.find_cluster("ray://head:10001") == "ray://head:10001"
