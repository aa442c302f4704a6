"""The keys of a gateway's listener."""

from __future__ import annotations

from serving_app.config import ServingConfig
from serving_app.config.ssl_config import TlsKeys, parse_ssl_config
from serving_app.serve.secret_file import read_secret


def read_keys(config: ServingConfig) -> TlsKeys | None:
    """The keys in gateway.ssl_config_file; None if none is set. Blocks, and raises what `read_secret` raises."""
    return read_secret(config, "ssl_config_file", parse_ssl_config)
