"""Whether Ray's token is shown to a cluster that is named by its address."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from serving_app.client.ray_token import use_token


@pytest.mark.parametrize(
    ("address", "said_before", "has_token", "then"),
    [
        ("127.0.0.1:1", None, True, "token"),
        ("127.0.0.1:1", "disabled", True, "disabled"),
        ("127.0.0.1:1", None, False, None),
        (None, None, True, None),
    ],
)
def test_the_token_is_shown_where_ray_would_not_think_of_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, address: str | None, said_before: str | None, has_token: bool,
    then: str | None,
) -> None:
    """With an address and a token, and nothing said about it, Ray is told to use the token; else it is left alone."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    if said_before is not None:
        monkeypatch.setenv("RAY_AUTH_MODE", said_before)
    if has_token:
        (tmp_path / ".ray").mkdir()
        (tmp_path / ".ray" / "auth_token").write_text("secret")
    monkeypatch.delitem(sys.modules, "ray", raising=False)  # as before its first use
    use_token(address)
    assert os.environ.get("RAY_AUTH_MODE") == then


def test_a_user_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """Containers run as users that the system does not know: these have no token in a file, and no trouble."""

    def unknown(uid: int) -> None:
        raise KeyError(uid)

    for name in ("HOME", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setattr("pwd.getpwuid", unknown)
    monkeypatch.delitem(sys.modules, "ray", raising=False)
    use_token("127.0.0.1:1")
    assert "RAY_AUTH_MODE" not in os.environ


def test_a_process_that_has_begun_with_ray_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Ray has read already would not follow."""
    monkeypatch.setenv("RAY_AUTH_MODE", "")
    monkeypatch.delenv("RAY_AUTH_MODE")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "secret")
    monkeypatch.setitem(sys.modules, "ray", sys)
    use_token("127.0.0.1:1")
    assert "RAY_AUTH_MODE" not in os.environ
