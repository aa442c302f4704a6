"""The file that tells TensorFlow Serving to show its metrics."""

from __future__ import annotations

import pytest

from serving_app.config.errors import ConfigError
from serving_app.config.gateway import GatewayConfig
from serving_app.config.monitoring import DEFAULT_METRICS_PATH, read_monitoring


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("", None),
        ("prometheus_config { }", None),
        ('prometheus_config { enable: false path: "/m" }', None),
        ("prometheus_config { enable: true }", DEFAULT_METRICS_PATH),
        ('prometheus_config { enable: true path: "" }', DEFAULT_METRICS_PATH),
        ('prometheus_config { enable: true, path: "/v1/metrics" }', "/v1/metrics"),
    ],
)
def test_the_page_is_where_the_file_says(text: str, path: str | None) -> None:
    """A file shows metrics only where it enables them, under its own path or the one that everybody expects."""
    assert read_monitoring(text, "monitoring.txt") == path


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prometheus_config {", "monitoring.txt"),
        ("prometheus { }", "'monitoring.txt', line 1, column 1"),
        ('prometheus_config { enable: true path: "metrics" }', "'metrics' of prometheus_config does not begin with /"),
    ],
)
def test_what_cannot_be_meant_is_said(text: str, message: str) -> None:
    """A file that cannot be read, or a path that no request has, is an error that names the place."""
    with pytest.raises(ConfigError, match=r"monitoring\.txt") as caught:
        read_monitoring(text, "monitoring.txt")
    assert message in str(caught.value)


def test_the_default_is_the_one_of_the_setting() -> None:
    """With and without such a file the page is at the same place."""
    assert GatewayConfig().metrics_path == DEFAULT_METRICS_PATH
