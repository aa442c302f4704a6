"""The file with a gateway's keys, wherever it lies."""

from __future__ import annotations

from pathlib import Path

import fsspec
import pytest

from serving_app.config import parse
from serving_app.core.errors import FailedPrecondition
from serving_app.serve.ssl_file import read_keys
from tests.serve.certificates import Authority, ssl_config

SERVER = Authority().certify("server")


def test_keys_are_read_from_any_store(tmp_path: Path) -> None:
    """A path and a URI are as good; without the setting there are no keys."""
    (tmp_path / "keys").write_text(ssl_config(SERVER))
    fsspec.filesystem("memory").pipe("/test_ssl_file/keys", ssl_config(SERVER).encode())
    for file in (str(tmp_path / "keys"), "memory://test_ssl_file/keys"):
        keys = read_keys(parse({"gateway": {"ssl_config_file": file}}))
        assert keys is not None
        assert keys.server_key == SERVER.key.encode()
    assert read_keys(parse({})) is None


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("{}/none", None, "none"),
        ("{}/keys", b"\xff\xfe", "is no text in UTF-8"),
        ("{}/keys", b"", "keys: server_key is missing"),
        ("memory://me:word@host/none", None, "memory://***@host/none"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, file: str, content: bytes | None, message: str) -> None:
    """The setting, the file and what is wrong are said in one line, without a password of the file's URI."""
    path = file.format(tmp_path)
    if content is not None:
        Path(path).write_bytes(content)
    with pytest.raises(FailedPrecondition) as caught:
        read_keys(parse({"gateway": {"ssl_config_file": path}}))
    said = str(caught.value)
    assert said.startswith("gateway.ssl_config_file: ")
    assert message in said
    assert "word" not in said
    assert "\n" not in said
