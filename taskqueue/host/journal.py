"""Entries for systemd's journal, in its native protocol: one datagram for each log record.

The record of `log.warning("worker died: group=%s pid=%d", "worker1", 7)` becomes the fields MESSAGE, PRIORITY and so
on, and TASKQUEUE_GROUP=worker1 and TASKQUEUE_PID=7, which `journalctl TASKQUEUE_GROUP=worker1` finds. The source of the
format is https://systemd.io/JOURNAL_NATIVE_PROTOCOL/. This module must never decide which records are logged.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress

SOCKET = "/run/systemd/journal/socket"
"""Where journald receives datagrams."""
_PREFIX = "TASKQUEUE_"
"""Of the fields that are taskqueue's own."""
_CONVERSION = re.compile(r"(?:\b([a-z_]+)=)?%(?:%|[-#0 +]*[0-9]*(?:\.[0-9]+)?[a-zA-Z])")
"""A conversion of a log message, with the key in front of it: `group=%s`."""
_LIMIT, _ID_LIMIT = 40_000, 1_000
"""Characters: an entry must fit into one datagram, /proc/sys/net/core/wmem_default bytes (212,992)."""
_ALIASES = {"message_id": "task"}
"""Other names of a key: an entry has the id of a workitem as TASKQUEUE_TASK, whatever the message calls it."""
_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
"""From level to priority, see syslog(3); below the last it is 7, debug."""


def is_stream(fd: int, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether `fd` is the stream that systemd has connected to the journal: `JOURNAL_STREAM` in systemd.exec(5)."""
    with suppress(OSError):
        found = os.fstat(fd)
        return environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"
    return False


def ids(record: logging.LogRecord) -> Iterator[tuple[str, str]]:
    """The keys in the message, `group=%s pid=%d`, each with its value."""
    arguments = record.args if isinstance(record.args, tuple) else ()
    conversions = [found for found in _CONVERSION.finditer(str(record.msg)) if not found[0].endswith("%%")]
    for found, value in zip(conversions, arguments, strict=False):
        if found[1]:
            yield _ALIASES.get(found[1], found[1]), str(value)


def entry(record: logging.LogRecord, message: str, ident: str, facility: int) -> bytes:
    """The datagram of `record`, whose text is `message`."""
    priority = next((number for level, number in _PRIORITIES if record.levelno >= level), 7)
    fields = {
        "MESSAGE": message[:_LIMIT],
        "PRIORITY": str(priority),
        "SYSLOG_FACILITY": str(facility),
        "SYSLOG_IDENTIFIER": ident,
        "SYSLOG_PID": str(record.process),
        "LOGGER": record.name,
        **{f"{_PREFIX}{key.upper()}": value[:_ID_LIMIT] for key, value in ids(record)},
    }
    return b"".join(_field(key, value.encode(errors="backslashreplace")) for key, value in fields.items())


def _field(key: str, value: bytes) -> bytes:
    """One field, in the form that gives its length: a line break in a value cannot begin another field."""
    return key.encode() + b"\n" + len(value).to_bytes(8, "little") + value + b"\n"
