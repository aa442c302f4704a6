"""Fixtures of the tests of stores."""

from tests.store.servers import gcs_server, s3_server

__all__ = ["gcs_server", "s3_server"]
