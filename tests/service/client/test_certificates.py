"""Certificates: which are trusted, and what is said of others."""

import asyncio
import http
import json
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from small_servers import answering
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection

from service.client import AsyncClient, Client, ClientError, ModelAdmin, Unreachable, Untrusted

HELLO = {"type": "hello", "protocol": 1, "credits": 1, "model": {"name": "tiny", "version": 1, "sha256": "f" * 64}}
MODELS = {"name": "tiny", "ready": True, "versions": [], "events": []}
WORDS = "certificate of https://127.0.0.1.*is trusted here.*self.signed.*SSL_CERT_FILE"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of this machine that nobody else has signed, and its key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl makes the certificate")
    file = tmp_path_factory.mktemp("tls") / "certificate.pem"
    kind = ("-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=robots")
    names = ("-addext", "subjectAltName=IP:127.0.0.1")
    key = file.with_name("key.pem")
    subprocess.run([openssl, "req", *kind, *names, "-keyout", key, "-out", file], check=True, capture_output=True)
    return file


@pytest.fixture
def address(certificate: Path) -> Iterator[str]:
    """A server that is ready, lists its models and greets on streams, over TLS."""

    def answer(connection: ServerConnection, request: Request) -> Response | None:
        if request.path.startswith("/stream"):
            return None
        return connection.respond(http.HTTPStatus.OK, json.dumps(MODELS))

    def greet(socket: ServerConnection) -> None:
        socket.send(json.dumps(HELLO))
        list(socket)

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_name("key.pem"))
    with answering(greet, ssl=context, process_request=answer) as found:
        yield found


def test_a_certificate_that_is_not_trusted_is_said_at_once_with_what_helps(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def segment() -> None:
        async with AsyncClient(address) as client:
            await client.segment(b"frame")

    async def stream() -> None:
        async with AsyncClient(address) as client, client.stream():
            pass

    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    waits: list[float] = []
    with Client(address, sleep=waits.append) as client:
        with pytest.raises(Untrusted, match=WORDS) as caught:
            client.segment(b"frame")
        with pytest.raises(Untrusted, match=WORDS), client.stream():
            pass
        assert not client.ready()
    with pytest.raises(Untrusted, match=WORDS):
        asyncio.run(segment())
    with pytest.raises(Untrusted, match=WORDS):
        asyncio.run(stream())
    with pytest.raises(Untrusted, match=WORDS), ModelAdmin(address) as admin:
        admin.listing()
    assert waits == []
    assert isinstance(caught.value, Unreachable)


def test_all_ways_to_a_service_trust_the_authority_that_the_environment_names(
    address: str, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ask() -> bool:
        async with AsyncClient(address) as client, client.stream() as stream:
            return await client.ready() and stream.model is not None

    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with Client(address) as client, client.stream() as stream, ModelAdmin(address) as admin:
        assert client.ready()
        assert stream.model is not None
        assert admin.listing() == MODELS
    assert asyncio.run(ask())


def test_a_certificate_of_another_host_is_not_trusted(
    address: str, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with (
        pytest.raises(ClientError, match="Hostname mismatch"),
        ModelAdmin(address.replace("127.0.0.1", "localhost")) as admin,
    ):
        admin.listing()


def test_certificates_are_looked_up_in_one_place(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    with Client(address) as client:
        pool = client._http._transport._pool  # type: ignore[attr-defined]
        of_client = pool._ssl_context.cert_store_stats()
    assert of_client == ssl.create_default_context().cert_store_stats()
