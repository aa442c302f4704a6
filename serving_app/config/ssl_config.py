"""Keys and certificates for a listener, as TensorFlow Serving's SSLConfig says them in text form.

The file holds a private key, so nothing of its text may get into a message: errors name the file, the line and the
field, and what was expected there.
"""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from google.protobuf import text_format

from serving_app.config.errors import ConfigError
from serving_app.protocol import messages

_UNKNOWN_FIELD = re.compile(r'has no field named "(\w{1,40})"')
_FIELDS = "server_key, server_cert, custom_ca and client_verify"


@dataclass(frozen=True, slots=True)
class TlsKeys:
    """What a TLS listener needs, as PEM text. `client_ca` is None where clients show no certificate."""

    server_key: bytes = field(repr=False)
    server_cert: bytes = field(repr=False)
    client_ca: bytes | None = field(default=None, repr=False)


def server_context(keys: TlsKeys) -> ssl.SSLContext:
    """What a listener for HTTP/2 needs of these keys, which have been checked."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["h2"])
    with _in_memory(keys.server_cert.decode()) as cert, _in_memory(keys.server_key.decode()) as key:
        context.load_cert_chain(cert, key)
    if keys.client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=keys.client_ca.decode())
    return context


def parse_ssl_config(text: str, file: str) -> TlsKeys:
    """The keys in the text of `file`. Raises ConfigError, which tells what is wrong where, and never a key."""
    config = _parse(text, file)
    for name in ("server_key", "server_cert"):
        if not getattr(config, name):
            raise ConfigError(f"{file}: {name} is missing; give it the PEM text itself, with \\n for its line breaks")
    if config.client_verify and not config.custom_ca:
        raise ConfigError(
            f"{file}: client_verify asks clients for certificates, but custom_ca is missing; give it the certificates, "
            "as PEM text, of those who sign for clients"
        )
    _check_pem(config.server_key, "PRIVATE KEY", f"{file}: server_key")
    _check_pem(config.server_cert, "CERTIFICATE", f"{file}: server_cert")
    if config.custom_ca:
        _check_pem(config.custom_ca, "CERTIFICATE", f"{file}: custom_ca")
    _check_pair(config.server_key, config.server_cert, file)
    if config.custom_ca:
        _check_authorities(config.custom_ca, f"{file}: custom_ca")
    return TlsKeys(
        config.server_key.encode(),
        config.server_cert.encode(),
        config.custom_ca.encode() if config.client_verify else None,
    )


def _parse(text: str, file: str) -> Any:
    config = messages.SSLConfig()
    try:
        text_format.Parse(text.removeprefix("\ufeff"), config, descriptor_pool=messages.POOL)
    except text_format.ParseError as error:
        unknown = _UNKNOWN_FIELD.search(str(error))
        reason = f"there is no field {unknown[1]}" if unknown else "this is no text form of an SSLConfig"
        # What the parser says quotes the text, and its error would be shown with the stack: hence `from None`.
        raise ConfigError(
            f"Invalid protobuf file: '{file}', line {error.GetLine() or 1}, column {error.GetColumn() or 1}: {reason}; "
            f"its fields are {_FIELDS}, texts in double quotes with \\n for line breaks"
        ) from None
    return config


def _check_pem(text: str, kind: str, where: str) -> None:
    if re.search(rf"-----BEGIN [A-Z0-9 ]*{kind}-----[^-]+-----END [A-Z0-9 ]*{kind}-----", text):
        return
    hint = "; it looks like the name of a file, and the PEM text itself is wanted" if _is_path(text) else ""
    raise ConfigError(f"{where} holds no PEM text between BEGIN and END {kind}{hint}")


def _is_path(text: str) -> bool:
    return "-----" not in text and len(text) < 1000 and ("/" in text or "." in text) and "\n" not in text.strip()


def _check_pair(key: str, cert: str, file: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with _in_memory(cert) as cert_path, _in_memory(key) as key_path:
        try:
            context.load_cert_chain(cert_path, key_path, password=_refuse_password)
        except _Encrypted:
            raise ConfigError(
                f"{file}: server_key is encrypted; write it without a passphrase, as openssl pkey does"
            ) from None
        except (ssl.SSLError, ValueError, OSError) as error:
            reason = getattr(error, "reason", None) or "it cannot be read"
            raise ConfigError(
                f"{file}: server_key and server_cert are no key and the certificate made for it: "
                f"{str(reason).lower().replace('_', ' ')}"
            ) from None


def _check_authorities(text: str, where: str) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cadata=text)
    except (ssl.SSLError, ValueError) as error:
        raise ConfigError(f"{where} holds a certificate that cannot be read") from error


class _Encrypted(Exception):
    pass


def _refuse_password() -> str:
    raise _Encrypted


@contextmanager
def _in_memory(text: str) -> Iterator[str]:
    """A path under which the text can be read, on no disk: the library takes keys from files only."""
    number = os.memfd_create("pem")
    try:
        os.write(number, text.encode())
        yield f"/proc/self/fd/{number}"
    finally:
        os.close(number)
