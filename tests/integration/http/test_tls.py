"""A front with TLS: certificates by openssl, clients with and without one."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from pathlib import Path

import aiohttp
import pytest

from fronts import front
from taskqueue.config.http_settings import HttpSettings
from taskqueue.errors import DaemonError
from taskqueue.http.tls import server_context


def certificate(directory: Path, name: str) -> tuple[str, str]:
    """(certificate, key) for `localhost`, signed by itself."""
    cert, key = directory / f"{name}.pem", directory / f"{name}.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, "-days", "2",
         "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"],
        check=True, capture_output=True,
    )  # fmt: skip
    return str(cert), str(key)


def test_tls_and_certificates_of_clients(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path, "server")
    theirs = certificate(tmp_path, "client")

    async def main() -> None:
        book = f"sqlite:{tmp_path}/http.db"
        async with asyncio.timeout(30), front(book, tls_cert=cert, tls_key=key, client_ca=theirs[0]) as client:
            url = client.url.replace("http:", "https:") + "/health/live"
            context = ssl.create_default_context(cafile=cert)
            with pytest.raises((aiohttp.ClientError, ssl.SSLError)):
                await client.session.get(url, ssl=context)
            with pytest.raises(aiohttp.ClientError):
                await client.session.get(client.url + "/health/live")
            context.load_cert_chain(*theirs)
            async with client.session.get(url, ssl=context) as answer:
                assert answer.status == 200

    asyncio.run(main())


def test_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path, "server")
    with pytest.raises(DaemonError, match=r"tls_cert /nowhere"):
        server_context(HttpSettings(tls_cert="/nowhere", tls_key=key))
    with pytest.raises(DaemonError, match=r"expected PEM files"):
        server_context(HttpSettings(tls_cert=key, tls_key=cert))
    with pytest.raises(DaemonError, match=r"client_ca /nowhere"):
        server_context(HttpSettings(tls_cert=cert, tls_key=key, client_ca="/nowhere"))
    assert server_context(HttpSettings()) is None
