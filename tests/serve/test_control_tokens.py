"""The file with the tokens of those who may change something, wherever it lies."""

from __future__ import annotations

from pathlib import Path

import fsspec
import pytest

from serving_app.config import parse
from serving_app.core.errors import FailedPrecondition
from serving_app.serve.control_tokens import read_tokens

OLD, NEW = "0123456789abcdef", "a-longer.one_with~all+of/them=="


def test_tokens_are_read_from_any_store(tmp_path: Path) -> None:
    """A path and a URI are as good; each line has a token, comments aside; without the setting there are none."""
    text = f"# since May\n{OLD}\r\n\n  {NEW}  \n"
    (tmp_path / "tokens").write_text(text)
    fsspec.filesystem("memory").pipe("/test_control_tokens/tokens", text.encode())
    for file in (str(tmp_path / "tokens"), "memory://test_control_tokens/tokens"):
        tokens = read_tokens(parse({"gateway": {"control_token_file": file}}))
        assert tokens is not None
        assert [tokens.accept(each.encode()) for each in (OLD, NEW, OLD[:-1], f"{OLD}0", "", "# since May")] == [
            True, True, False, False, False, False,
        ]  # fmt: skip
        assert OLD not in f"{tokens!r} {vars(tokens)}"
    assert read_tokens(parse({})) is None


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("{}/none", None, "none"),
        ("{}/tokens", b"\xff\xfe", "is no text in UTF-8"),
        ("{}/tokens", b"", "tokens has no token; write one in a line"),
        ("{}/tokens", b"# only a comment\n", "has no token"),
        ("{}/tokens", b"0123456789abcdef\nsecret\n", "tokens, line 2: a token is at least 16 letters"),
        ("{}/tokens", b"secret secret secret\n", "line 1: a token is"),
        ("{}/tokens", "secret-sécret-secret".encode(), "line 1: a token is"),
        ("memory://me:secret@host/none", None, "memory://***@host/none"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, file: str, content: bytes | None, message: str) -> None:
    """The setting, the file, the line and what is wrong are said, and nothing of what stands there."""
    path = file.format(tmp_path)
    if content is not None:
        Path(path).write_bytes(content)
    with pytest.raises(FailedPrecondition) as caught:
        read_tokens(parse({"gateway": {"control_token_file": path}}))
    said = str(caught.value)
    assert said.startswith("gateway.control_token_file: ")
    assert message in said
    assert "secret" not in said
    assert "\n" not in said
