"""TLS of a front: its certificate, and whom clients' certificates must be from. Off without `tls_cert`."""

from __future__ import annotations

import ssl

from taskqueue.config.http_settings import HttpSettings
from taskqueue.errors import DaemonError


def server_context(settings: HttpSettings) -> ssl.SSLContext | None:
    """The context of [http] `tls_cert`, `tls_key` and `client_ca`; None without TLS. Raises `DaemonError` for files
    that cannot be used, with the name of the file and never its content."""
    if settings.tls_cert is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(settings.tls_cert, settings.tls_key)
    except (OSError, ssl.SSLError) as error:
        raise DaemonError(
            f"[http] tls_cert {settings.tls_cert}, tls_key {settings.tls_key}: {_reason(error)}"
        ) from None
    if settings.client_ca is not None:
        try:
            context.load_verify_locations(settings.client_ca)
        except (OSError, ssl.SSLError) as error:
            raise DaemonError(f"[http] client_ca {settings.client_ca}: {_reason(error)}") from None
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return f"{error.reason or 'not usable'}; expected PEM files that fit each other"
    return error.strerror or str(error)
