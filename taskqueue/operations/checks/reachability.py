"""Checks before there is a connection: which hosts of the list can be reached, TLS, what goes over the net in clear."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator
from ipaddress import ip_address

from taskqueue.config.settings import AmqpSettings
from taskqueue.errors import BrokerRefused, TaskqueueError
from taskqueue.operations.findings import Finding, ok, problem, warning

_CONNECT_S = 3.0
"""Seconds to wait for a TCP connection; a host that needs more is reported as not reachable."""
_EXPIRES_SOON_D = 30
"""Days a certificate should still be good for; below, it is a warning."""


def hosts(amqp: AmqpSettings) -> Iterator[Finding]:
    """Which hosts of the list can be reached, and what goes over the net in clear."""
    for host, port in amqp.hosts:
        name = f"{host}:{port}"
        try:
            with socket.create_connection((host, port), _CONNECT_S) as link:
                if amqp.ssl:
                    yield from _certificate(amqp, name, host, link)
        except OSError as error:
            if len(amqp.hosts) > 1:  # the error of the connection names a single host
                why = (error.strerror or str(error)).lower()
                yield warning("connection", f"{name}: {why}", "is this broker running? is there a firewall between?")
    remote = [host for host, _ in amqp.hosts if not is_loopback(host)]
    if remote and not amqp.ssl:
        yield warning(
            "tls", f"password and workitems go to {', '.join(remote)} in clear", "[amqp] ssl: yes, with ca_file"
        )
    elif not amqp.ssl:
        yield ok("tls", "none, and none is needed on this host")


def is_loopback(host: str) -> bool:
    """Whether `host`, a name or an address, is this host by its loopback interface."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.startswith("localhost.")


def _certificate(amqp: AmqpSettings, name: str, host: str, link: socket.socket) -> Iterator[Finding]:
    try:
        context = ssl.create_default_context(cafile=amqp.ca_file)
        if amqp.cert_file is not None:
            context.load_cert_chain(amqp.cert_file, amqp.key_file)
        with context.wrap_socket(link, server_hostname=host) as wrapped:
            certificate = wrapped.getpeercert() or {}
    except ssl.SSLCertVerificationError as error:
        yield problem("tls", f"{name}: {error.verify_message}", "[amqp] ca_file must hold the authority that signed it")
    except OSError as error:
        yield problem("tls", f"{name}: {error}", "does the broker speak TLS on this port? [amqp] ca_file, cert_file")
    else:
        ends = ssl.cert_time_to_seconds(str(certificate["notAfter"]))
        days = (ends - time.time()) / 86400
        found = f"{name}: certificate is good for {days:.0f} days more"
        if days < _EXPIRES_SOON_D:
            yield warning("tls", found, "renew it in time")
        else:
            yield ok("tls", found)


def connection(error: TaskqueueError) -> Finding:
    """The finding for a connection that could not be made."""
    if isinstance(error, BrokerRefused):
        return problem("connection", str(error), "mend [amqp] in the config, or the user's rights at the broker")
    return problem("connection", str(error), "start the broker, or mend [amqp] host and port")
