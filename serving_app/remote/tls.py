"""How a client knows its server, and shows who it is."""

from __future__ import annotations

import os
import ssl
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from serving_app.core.errors import InvalidArgument

Pem = str | bytes | os.PathLike[str]
"""PEM text, or the path of a file with it."""


@dataclass(frozen=True, slots=True)
class Tls:
    """Whom to trust, and a certificate to show. Each is PEM text or the path of a file with it.

    `ca` are the authorities that may have signed the server's certificate; None means those that the system trusts
    (gRPC brings a list of its own). `certificate` and its `key` are shown to servers that want one.
    """

    ca: Pem | None = None
    certificate: Pem | None = None
    key: Pem | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise InvalidArgument("a client's certificate needs its key, and a key its certificate: give both")

    def pem(self) -> tuple[bytes | None, bytes | None, bytes | None]:
        """The texts of `ca`, `key` and `certificate`; InvalidArgument if one cannot be read."""
        return _read("ca", self.ca), _read("key", self.key), _read("certificate", self.certificate)

    def context(self) -> ssl.SSLContext:
        """The same as the standard library has it; InvalidArgument if one is not right."""
        ca, key, certificate = self.pem()
        try:
            context = ssl.create_default_context(cadata=None if ca is None else ca.decode())
            if certificate is not None and key is not None:
                # Python's TLS takes these from files only. The folder is the owner's alone.
                with tempfile.TemporaryDirectory() as folder:
                    file = Path(folder) / "client.pem"
                    file.touch(0o600)
                    file.write_bytes(key + b"\n" + certificate)
                    context.load_cert_chain(file)
        except (ssl.SSLError, UnicodeDecodeError) as error:
            raise InvalidArgument(f"ca, certificate and key must be PEM, and belong together: {error}") from error
        return context


def _read(name: str, given: Pem | None) -> bytes | None:
    if given is None or isinstance(given, bytes):
        return given
    if isinstance(given, str) and "-----BEGIN" in given:
        return given.encode()
    try:
        return Path(given).read_bytes()
    except OSError as error:
        raise InvalidArgument(f"{name} is neither PEM text nor a file that can be read: {error}") from error
