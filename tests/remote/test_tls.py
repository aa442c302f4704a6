"""Clients and servers that know each other by certificates."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from serving_app.config import GatewayConfig
from serving_app.config.ssl_config import parse_ssl_config, server_context
from serving_app.core.errors import InvalidArgument, Unavailable
from serving_app.remote import AsyncGrpcClient, AsyncRestClient, GrpcClient, RestClient, Retries, Tls
from serving_app.serve.grpc_app import GrpcApp
from serving_app.serve.grpc_listener import GrpcListener
from serving_app.serve.grpc_settings import grpc_settings
from tests.remote.client_contract import used
from tests.remote.raw_servers import HOST, answer, saying, serving
from tests.serve.certificates import Authority, ssl_config
from tests.serve.fronts import IDENTITY, LARGEST_REQUEST, Front

AUTHORITY, STRANGER = Authority("ours"), Authority("strange")
SERVER, CLIENT = AUTHORITY.certify("server"), AUTHORITY.certify("client")
STRANGE_CLIENT = STRANGER.certify("client")
ONCE = Retries(attempts=1)

RIGHT = Tls(ca=AUTHORITY.cert, certificate=CLIENT.cert, key=CLIENT.key)
WITHOUT_CERTIFICATE = Tls(ca=AUTHORITY.cert)
STRANGE = Tls(ca=AUTHORITY.cert, certificate=STRANGE_CLIENT.cert, key=STRANGE_CLIENT.key)
DISTRUSTING = Tls(ca=STRANGER.cert, certificate=CLIENT.cert, key=CLIENT.key)


@contextmanager
def rest_server(verify: bool) -> Iterator[str]:
    """A server that answers one kind of request, as TensorFlow Serving's REST has no TLS of its own."""
    context = server_context(parse_ssl_config(ssl_config(SERVER, AUTHORITY.cert, verify), "f"))
    with serving(saying(*[answer(b'{"outputs": [3.5]}')] * 4), context) as server:
        yield f"https://{server.address}"


@contextmanager
def grpc_server(front: Front, verify: bool) -> Iterator[str]:
    """The gateway's listener."""
    settings = GatewayConfig()
    app = GrpcApp(front.plane, front._reload, settings=settings)
    keys = parse_ssl_config(ssl_config(SERVER, AUTHORITY.cert, verify), "f")
    listener = GrpcListener(app.methods(), IDENTITY, grpc_settings(LARGEST_REQUEST, {}), keys)

    async def start() -> str:
        return (await listener.start(HOST, 0))[0]

    try:
        yield front.run(start())
    finally:
        front.run(listener.drain(0.0))


@pytest.mark.parametrize("kind", [RestClient, AsyncRestClient, GrpcClient, AsyncGrpcClient])
@pytest.mark.parametrize("verify", [False, True])
def test_both_sides_may_ask_for_certificates(front: Front, kind: Any, verify: bool) -> None:
    """A server is trusted whose authority is; where it wants certificates, clients with a right one are served."""
    is_rest = kind in (RestClient, AsyncRestClient)
    with (rest_server(verify) if is_rest else grpc_server(front, verify)) as address:
        for tls, is_right in (
            (RIGHT, True), (WITHOUT_CERTIFICATE, not verify), (STRANGE, not verify), (DISTRUSTING, False)
        ):
            with used(kind(address, tls=tls, retries=ONCE, typed=False)) as client:
                model = client.model("half_plus_two")
                if is_right and not is_rest:
                    assert model.status()
                elif not is_right:
                    with pytest.raises(Unavailable, match=address):
                        model.predict(x=[1.0])
                if is_right:
                    assert [each.tolist() for each in model.predict(x=[1.0]).values()] == [[3.5]]


def test_plain_and_encrypted_do_not_meet(front: Front) -> None:
    """A client with TLS at a server without, and the reverse, are told that this does not fit."""
    with rest_server(False) as address:
        for wrong, message in (
            (f"https://{front.rest_address}", "do not agree on TLS"), (address.replace("https", "http"), "http://")
        ):
            with used(RestClient(wrong, retries=ONCE)) as client, pytest.raises(Unavailable, match=message):
                client.model("m").status()


def test_a_context_of_the_standard_library_will_do() -> None:
    """Who has special wishes hands over an SSLContext."""
    context = ssl.create_default_context(cadata=AUTHORITY.cert)
    with rest_server(False) as address, used(RestClient(address, tls=context, typed=False)) as client:
        assert client.model("m").predict(x=[1.0])["outputs"].tolist() == [3.5]


@pytest.mark.parametrize("form", [str, str.encode, Path])
def test_certificates_come_as_text_or_from_files(form: Any, tmp_path: Path) -> None:
    """What is PEM text is taken as it is, and anything else is the path of a file with it."""
    texts = {"ca": AUTHORITY.cert, "certificate": CLIENT.cert, "key": CLIENT.key}
    if form is Path:
        for name, text in texts.items():
            (tmp_path / name).write_text(text)
        tls = Tls(**{name: tmp_path / name for name in texts})
    else:
        tls = Tls(**{name: form(text) for name, text in texts.items()})
    assert tls.pem() == tuple(texts[name].encode() for name in ("ca", "key", "certificate"))
    assert isinstance(tls.context(), ssl.SSLContext)
    assert CLIENT.key not in repr(Tls(certificate="c", key=CLIENT.key))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"key": CLIENT.key}, "give both"),
        ({"certificate": CLIENT.cert}, "give both"),
        ({"ca": "/no/such/file"}, "ca is neither PEM text nor a file"),
        ({"ca": b"nonsense"}, "must be PEM"),
        ({"ca": b"-----BEGIN \xff"}, "must be PEM"),
        ({"certificate": CLIENT.cert, "key": STRANGE_CLIENT.key}, "belong together"),
    ],
)
def test_certificates_that_are_none_are_refused(options: dict[str, Any], message: str) -> None:
    """What cannot be read, is no PEM or does not belong together is told before anything is sent."""
    with pytest.raises(InvalidArgument, match=message):
        RestClient("https://host", tls=Tls(**options))
