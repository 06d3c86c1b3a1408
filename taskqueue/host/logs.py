"""The log of a process: its target (syslog, journal, a stream) and its format (text, JSON).

Every process of taskqueue calls `setup_logging` once, at its start. A log that is full, hung or gone must never hold up
the process: lines are lost then, and the number of lost lines is logged as soon as the log takes lines again.
"""

from __future__ import annotations

import json
import logging
import logging.handlers
import os
import re
import select
import socket
import time
from typing import TextIO

from taskqueue.config.settings import LoggingSettings
from taskqueue.host import journal

SYSLOG_SOCKET = "/dev/log"
_READER_S = 0.5
"""Seconds that the process waits, once, for the reader of a full pipe; then lines are lost until the pipe has room."""
_AS_WARNING = {"levelno": logging.WARNING, "levelname": "WARNING", "args": None, "exc_info": None, "exc_text": None}
MESSAGE_LIMIT = 40_000
"""Characters of a message, and of a traceback; the rest is cut off. One line of a plugin must not fill the disk."""
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")


def _cut(text: str) -> str:
    return text if len(text) <= MESSAGE_LIMIT else f"{text[:MESSAGE_LIMIT]}..."


class _Text(logging.Formatter):
    """Lines that nobody can forge: a client's `message_id` may hold a line break, so the text after one is indented."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, and below it the traceback, indented."""
        text = _CONTROLS.sub(lambda found: f"\\x{ord(found[0]):02x}", _cut(super().format(record)))
        return text.replace("\n", "\n    ")


class _Json(logging.Formatter):
    """One JSON object a line."""

    def __init__(self, ident: str) -> None:
        super().__init__()
        self._ident = ident

    def format(self, record: logging.LogRecord) -> str:
        """Time in UTC (RFC 3339), and the traceback as one string."""
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        entry = {
            "time": f"{seconds}.{int(record.msecs):03d}Z",
            "level": record.levelname,
            "ident": self._ident,
            "pid": record.process,
            "logger": record.name,
            "message": _cut(record.getMessage()),
        }
        if record.exc_info:
            entry["trace"] = _cut(self.formatException(record.exc_info))
        return json.dumps(entry)


class _Patient(logging.Handler):
    """A handler for a log that may be full, hung or gone: it loses lines, counts them, and never waits for long."""

    _lost = 0
    _failed = False

    def emit(self, record: logging.LogRecord) -> None:
        """Write `record`, preceded by a line with the number of lost lines, if there are any."""
        if self._lost:
            lost = f"log lines lost: count={self._lost} reason=the log took none"
            if not self._write(logging.makeLogRecord({**record.__dict__, **_AS_WARNING, "msg": lost})):
                self._lost += 1
                return
            self._lost = 0
        self._lost += not self._write(record)

    def _write(self, record: logging.LogRecord) -> bool:
        self._failed = not self._ready()
        if not self._failed:
            super().emit(record)
        return not self._failed

    def _ready(self) -> bool:
        return True

    def handleError(self, record: logging.LogRecord) -> None:
        """Note that the line could not be written; `logging` calls this."""
        self._failed = True


class _Syslog(_Patient, logging.handlers.SysLogHandler):
    """Syslog, which may be restarted, and may hang."""

    def _connect_unixsocket(self, address: str) -> None:
        """Connect without blocking, so that a hung syslog cannot hang the process. A private method of `logging`, the
        same in Python 3.11 to 3.14."""
        super()._connect_unixsocket(address)  # type: ignore[misc]
        self.socket.setblocking(False)  # type: ignore[attr-defined]


class _Journal(_Patient, logging.Handler):
    """The journal, which may be restarted, and may hang. The ids in a message become fields of the entry."""

    def __init__(self, ident: str) -> None:
        super().__init__()
        self._ident = ident
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._sock.setblocking(False)

    def _write(self, record: logging.LogRecord) -> bool:
        datagram = journal.entry(record, self.format(record), self._ident, logging.handlers.SysLogHandler.LOG_DAEMON)
        try:
            self._sock.sendto(datagram, journal.SOCKET)
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Give the descriptor back."""
        self._sock.close()
        super().close()


class _Stream(_Patient, logging.StreamHandler[TextIO]):
    """A stream: a terminal, a file on a disk that may be full, or a pipe that may have no reader."""

    def __init__(self, stream: TextIO | None) -> None:
        super().__init__(stream)
        self._room = select.poll()
        self._room.register(self.stream, select.POLLOUT)

    def _ready(self) -> bool:
        """Whether a line can be written; waits for the reader of a full pipe, but not again while lines are lost."""
        return bool(self._room.poll(0 if self._lost else _READER_S * 1000))


def setup_logging(settings: LoggingSettings, ident: str, stream_fd: int | None = None) -> None:
    """Send the log of this process to `settings.target`: syslog, the journal, or `stream_fd` (None: standard error).

    `ident` names the program in each line. The target must not be None: see `daemon.log_settings`. A second call
    replaces the handlers of the first.
    """
    handler: logging.Handler
    if settings.target == "syslog":
        handler = _Syslog(SYSLOG_SOCKET, facility=logging.handlers.SysLogHandler.LOG_DAEMON)
        text = f"{ident}[%(process)d]: %(levelname)s %(message)s"
    elif settings.target == "journal":
        handler = _Journal(ident)
        text = "%(message)s"
    else:
        handler = _Stream(_stream(stream_fd))
        text = f"%(asctime)s %(levelname)s {ident}[%(process)d]: %(message)s"
    formatter: logging.Formatter = _Json(ident) if settings.format == "json" else _Text(text)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    root.setLevel(settings.level)
    logging.captureWarnings(True)


def _stream(fd: int | None) -> TextIO | None:
    return None if fd is None else os.fdopen(os.dup(fd), "w", buffering=1, errors="backslashreplace")
