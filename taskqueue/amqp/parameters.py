"""The parameters of pika for one try at one broker: `[amqp]` in pika's words. It must never connect."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Sequence
from typing import Any

import pika

from taskqueue import __version__
from taskqueue.config.settings import AmqpSettings
from taskqueue.errors import ConfigError


def parameters(
    settings: AmqpSettings, host: tuple[str, int], tls: ssl.SSLContext | None, name: str, timeout_s: float
) -> Any:
    """pika's parameters for one try at `host`; `timeout_s` is for TCP, half of it more for TLS and AMQP.

    `name` is what `rabbitmqctl list_connections` shows, with this host and process.
    """
    address, port = host
    return pika.ConnectionParameters(
        host=address,
        port=port,
        virtual_host=settings.vhost,
        credentials=pika.PlainCredentials(settings.user, settings.passwd),
        heartbeat=settings.heartbeat_s,
        ssl_options=pika.SSLOptions(tls, address) if tls is not None else None,
        socket_timeout=timeout_s,
        stack_timeout=timeout_s * 1.5,
        connection_attempts=1,
        client_properties={
            "product": "taskqueue",
            "version": __version__,
            "connection_name": f"{name} {socket.gethostname()} pid {os.getpid()}",
        },
    )


def tls_context(settings: AmqpSettings) -> ssl.SSLContext | None:
    """The TLS context of [amqp], or None where `ssl` is off; raises `ConfigError` where a file cannot be used."""
    if not settings.ssl:
        return None
    files: Sequence[str | None] = (settings.ca_file, settings.cert_file, settings.key_file)
    try:
        context = ssl.create_default_context(cafile=settings.ca_file)
        if settings.cert_file is not None:
            context.load_cert_chain(settings.cert_file, settings.key_file)
    except (OSError, ssl.SSLError) as error:
        named = ", ".join(name for name in files if name)
        raise ConfigError(f"[amqp] ca_file, cert_file, key_file: cannot use {named}: {error}") from None
    return context
