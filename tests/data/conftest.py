"""Fixtures of the tests of datasets."""

from tests.store.servers import s3_server

__all__ = ["s3_server"]
