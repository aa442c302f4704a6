"""TensorFlow Serving's MonitoringConfig: the file that `--monitoring_config_file` names."""

from __future__ import annotations

from serving_app.config.errors import ConfigError
from serving_app.config.proto_text import parse_proto_text
from serving_app.protocol import messages

DEFAULT_METRICS_PATH = "/monitoring/prometheus/metrics"
"""Where the metrics are shown unless the file says otherwise (http_server.cc)."""


def read_monitoring(text: str, source: str) -> str | None:
    """The path of the metrics page that a MonitoringConfig in text form asks for; None if it asks for no page.

    Raises ConfigError where the text cannot be read, or names a path that no request could have; `source` says in the
    error where the text comes from.
    """
    prometheus = parse_proto_text(text, messages.MonitoringConfig(), source).prometheus_config
    if not prometheus.enable:
        return None
    path: str = prometheus.path or DEFAULT_METRICS_PATH
    if not path.startswith("/"):
        raise ConfigError(f"{source}: the path {path!r} of prometheus_config does not begin with /; write all of it")
    return path
