"""Reads the file with the keys of a gateway's listener, where the gateway runs."""

from __future__ import annotations

from serving_app.config import ServingConfig
from serving_app.config.secrets import redact_text
from serving_app.config.ssl_config import TlsKeys, parse_ssl_config
from serving_app.config.stores import store_options
from serving_app.core.errors import FailedPrecondition, ServingError
from serving_app.serve.config_file import read_text


def read_keys(config: ServingConfig) -> TlsKeys | None:
    """The keys in gateway.ssl_config_file; None if none is set. Blocks.

    Raises FailedPrecondition, which names the file and what is wrong with it, and shows nothing of its text.
    """
    file = config.gateway.ssl_config_file
    if file is None:
        return None
    try:
        return parse_ssl_config(read_text(file, store_options(config, file)), file)
    except ServingError as error:
        raise FailedPrecondition(redact_text(f"gateway.ssl_config_file: {error}")) from None
