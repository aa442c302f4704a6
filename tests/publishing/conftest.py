"""Fixtures of the tests of publishing."""

from tests.store.servers import gcs_server, s3_server

__all__ = ["gcs_server", "s3_server"]
