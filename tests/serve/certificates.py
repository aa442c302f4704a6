"""Keys and certificates, made for tests: an authority, and whom it signs for."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


@dataclass(frozen=True)
class Certified:
    """A private key and the certificate for it, as PEM text."""

    key: str
    cert: str


class Authority:
    """Signs certificates; its own is `cert`."""

    def __init__(self, name: str = "authority") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        self.cert = _pem(_sign(self._name, self._key.public_key(), self._name, self._key, is_authority=True))

    def certify(self, name: str) -> Certified:
        """A new key, and a certificate for it under this name, which is good at this machine."""
        key = ec.generate_private_key(ec.SECP256R1())
        return Certified(_key_pem(key), _pem(_sign(_name(name), key.public_key(), self._name, self._key)))


def encrypted_key() -> str:
    """A private key behind a passphrase."""
    return _key_pem(ec.generate_private_key(ec.SECP256R1()), serialization.BestAvailableEncryption(b"passphrase"))


def ssl_config(server: Certified, ca: str = "", client_verify: bool = False) -> str:
    """The text form of an SSLConfig."""
    lines = [f"server_key: {_quoted(server.key)}", f"server_cert: {_quoted(server.cert)}"]
    lines += [f"custom_ca: {_quoted(ca)}"] if ca else []
    lines += ["client_verify: true"] if client_verify else []
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return '"' + text.replace("\n", "\\n") + '"'


def _name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])


def _sign(
    subject: x509.Name, public: ec.EllipticCurvePublicKey, issuer: x509.Name, key: ec.EllipticCurvePrivateKey,
    is_authority: bool = False,
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )


def _pem(cert: x509.Certificate) -> str:
    return cert.public_bytes(serialization.Encoding.PEM).decode()


def _key_pem(
    key: ec.EllipticCurvePrivateKey, encryption: serialization.KeySerializationEncryption | None = None
) -> str:
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(
        serialization.Encoding.PEM, form, encryption or serialization.NoEncryption()
    ).decode()
