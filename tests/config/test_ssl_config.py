"""Keys in TensorFlow Serving's text form: what is taken, and what an error may and may not tell."""

from __future__ import annotations

import traceback

import pytest

from serving_app.config import ConfigError
from serving_app.config.ssl_config import TlsKeys, parse_ssl_config
from tests.serve.certificates import Authority, Certified, encrypted_key, ssl_config

AUTHORITY = Authority()
SERVER = AUTHORITY.certify("server")
OTHER = AUTHORITY.certify("other")


def test_what_is_written_is_taken() -> None:
    """Key, certificate and, where clients are to show one, the authority come as they are written."""
    key, cert, ca = (text.encode() for text in (SERVER.key, SERVER.cert, AUTHORITY.cert))
    assert parse_ssl_config(ssl_config(SERVER), "f") == TlsKeys(key, cert, None)
    assert parse_ssl_config("\ufeff" + ssl_config(SERVER, AUTHORITY.cert), "f") == TlsKeys(key, cert, None)
    assert parse_ssl_config(ssl_config(SERVER, AUTHORITY.cert, True), "f") == TlsKeys(key, cert, ca)


def test_a_chain_is_taken() -> None:
    """A certificate may be followed by those that lead to its authority, and authorities may be several."""
    chain = Certified(SERVER.key, SERVER.cert + AUTHORITY.cert)
    text = ssl_config(chain, AUTHORITY.cert + Authority().cert, True)
    assert parse_ssl_config(text, "f").server_cert == chain.cert.encode()


def test_keys_are_not_shown() -> None:
    """What holds a key does not print it."""
    assert repr(parse_ssl_config(ssl_config(SERVER), "f")) == "TlsKeys()"


BROKEN = SERVER.cert.replace("M", "N")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "f: server_key is missing"),
        (f'server_cert: "{"x"}"', "f: server_key is missing"),
        (ssl_config(Certified(SERVER.key, "")), "f: server_cert is missing"),
        ('server_key: "a"\nserver_kay: "b"', "Invalid protobuf file: 'f', line 2, column 1: there is no field"),
        ('server_key: "abc', "Invalid protobuf file: 'f', line 1, column 13: this is no text form of an SSLConfig"),
        (SERVER.key, "Invalid protobuf file: 'f', line 1"),
        (ssl_config(SERVER).replace('server_key: "', "server_key: "), "Invalid protobuf file: 'f', line 1"),
        (ssl_config(Certified("/etc/server.key", SERVER.cert)), "server_key holds no PEM text.*the name of a file"),
        (ssl_config(Certified(SERVER.key, "certs/server.pem")), "server_cert holds no PEM text.*the name of a file"),
        (ssl_config(Certified(SERVER.cert, SERVER.cert)), "server_key holds no PEM text between BEGIN and END PRIVATE"),
        (ssl_config(SERVER, "nonsense"), "custom_ca holds no PEM text between BEGIN and END CERTIFICATE"),
        (ssl_config(SERVER, BROKEN), "custom_ca holds a certificate that cannot be read"),
        (ssl_config(Certified(SERVER.key, BROKEN)), "server_key and server_cert are no key and the certificate"),
        (ssl_config(Certified(OTHER.key, SERVER.cert)), "the certificate made for it: key values mismatch"),
        (ssl_config(Certified(encrypted_key(), SERVER.cert)), "server_key is encrypted; write it without a passphrase"),
        (ssl_config(SERVER, "", True), "client_verify asks clients for certificates, but custom_ca is missing"),
    ],
)
def test_what_is_wrong_is_said_without_the_key(text: str, message: str) -> None:
    """The file, the place and the field are named; nothing of a key is in the error, nor in its stack."""
    with pytest.raises(ConfigError, match=message) as caught:
        parse_ssl_config(text, "f")
    shown = "".join(traceback.format_exception(caught.value))
    for line in (*SERVER.key.splitlines()[1:-1], *OTHER.key.splitlines()[1:-1]):
        assert line[:24] not in shown
    assert "\n" not in str(caught.value)
