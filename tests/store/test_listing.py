"""Names of versions, and the errors of stores that cannot be listed."""

from __future__ import annotations

import errno
import sys

import pytest
from fsspec.registry import _registry

from serving_app.core.errors import (
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unavailable,
)
from serving_app.store import list_versions
from serving_app.store.filesystem import translate
from serving_app.store.listing import choose_versions, parse_version


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("1", 1),
        ("0", 0),
        ("00000123", 123),
        ("9223372036854775807", 2**63 - 1),
        ("9223372036854775808", None),
        ("-9223372036854775808", -(2**63)),
        ("-9223372036854775809", None),
        ("0" * 500 + "5", 5),
        ("9" * 100_000, None),
        (" 12", 12),
        ("12 \t", 12),
        ("+7", 7),
        ("-7", -7),
        ("-0", 0),
        ("- 7", None),
        ("1 2", None),
        ("", None),
        (" ", None),
        ("-", None),
        ("1.0", None),
        ("1e3", None),
        ("0x10", None),
        ("1_000", None),
        ("v1", None),
        ("5.denied", None),
        ("_tmp", None),
        (".1", None),
        ("１２", None),
        ("٣", None),
        ("²", None),
    ],
)
def test_parses_names(name: str, version: int | None) -> None:
    """A name is a version's if the whole of it is a decimal int64, blanks around and a sign allowed, nothing else."""
    assert parse_version(name) == version


@pytest.mark.parametrize(
    ("names", "chosen", "warned_of"),
    [
        (["3", "1", "x"], {1: "1", 3: "3"}, []),
        (["1", "001", "01"], {1: "1"}, ["'001' and '01'", "'01' and '1'"]),
        (["-1", "2"], {2: "2"}, ["'-1' is a negative number"]),
        ([" 4", "4"], {4: "4"}, ["' 4' and '4'"]),
        ([], {}, []),
    ],
)
def test_chooses_among_names(names: list[str], chosen: dict[int, str], warned_of: list[str]) -> None:
    """Each number has one name whatever order they are listed in, and each name that loses is warned of."""
    for order in (names, names[::-1]):
        got, warnings = choose_versions(order)
        assert got == chosen
        assert [warning.startswith(start) for warning, start in zip(warnings, warned_of, strict=True)].count(False) == 0


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (FileNotFoundError("/m"), NotFound),
        (NotADirectoryError("/m"), FailedPrecondition),
        (PermissionError(errno.EACCES, "Permission denied"), PermissionDenied),
        (ConnectionRefusedError("no"), Unavailable),
        (TimeoutError(), Unavailable),
        (OSError(errno.EIO, "Input/output error"), Unavailable),
        (OSError(errno.ENOSPC, "No space left on device"), ResourceExhausted),
        (ValueError("Bucket name is wrong"), InvalidArgument),
        (TypeError("unexpected keyword argument 'secrets'"), InvalidArgument),
        (RuntimeError("boom"), Internal),
    ],
)
def test_translates_errors(raised: Exception, expected: type) -> None:
    """Each cause of a failure has its own error, which names the path."""
    error = translate(raised, "s3://b/m")
    assert type(error) is expected
    assert "s3://b/m" in error.message


@pytest.mark.parametrize(
    ("base_path", "options", "expected", "message"),
    [
        ("nope://bucket/model", {}, InvalidArgument, "nope:// is no file system that fsspec knows"),
        ("/etc/hostname/model", {}, FailedPrecondition, "is a file, or lies below one"),
        ("/dev/null", {}, FailedPrecondition, "is a file"),
        ("/nowhere\0", {}, InvalidArgument, "check the path"),
    ],
)
def test_explains_base_paths_that_cannot_be_listed(base_path: str, options: dict, expected: type, message: str) -> None:
    """A store that cannot be opened says why, and what to install or change."""
    with pytest.raises(expected) as caught:
        list_versions(base_path, options, servable="m")
    assert f"Could not find base path {base_path} for servable m with error {expected.code.name}: " in str(caught.value)
    assert message in str(caught.value)


@pytest.mark.parametrize(("scheme", "package"), [("s3", "s3fs"), ("gs", "gcsfs")])
def test_names_the_package_that_is_missing(scheme: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store whose driver is not installed is refused with the command that installs it."""
    monkeypatch.delitem(_registry, scheme, raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(FailedPrecondition, match=f"{scheme}:// needs a package .* pip install {package}"):
        list_versions(f"{scheme}://bucket/model", servable="m")
