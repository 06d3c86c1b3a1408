"""Where log lines go and what they look like. Every process of ours calls `setup_logging` once, at its start."""

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
"""How long a line waits for whoever reads the log, before lines are lost instead."""
_AS_WARNING = {"levelno": logging.WARNING, "levelname": "WARNING", "args": None, "exc_info": None, "exc_text": None}
MESSAGE_LIMIT = 40_000
"""Characters of a message, and of a traceback: a plugin's own `self.log` must not fill the disk with one."""
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")


def _cut(text: str) -> str:
    return text if len(text) <= MESSAGE_LIMIT else f"{text[:MESSAGE_LIMIT]}..."


class _Text(logging.Formatter):
    """Text, and no way to forge it: behind a line break, which a client's `message_id` may hold, all is indented."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, and what follows it in a traceback."""
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
    """Writes to what may be full, hung or gone: the daemon goes on, and says how many lines were lost once it can."""

    _lost = 0
    _failed = False

    def emit(self, record: logging.LogRecord) -> None:
        """Write `record`, behind word of what was lost before it."""
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
        """Called by logging where a line could not be written."""
        self._failed = True


class _Syslog(_Patient, logging.handlers.SysLogHandler):
    """Syslog that may come and go, and may hang."""

    def _connect_unixsocket(self, address: str) -> None:
        """logging's seam, in 3.11 to 3.14; without it, a hung syslog would hang us."""
        super()._connect_unixsocket(address)  # type: ignore[misc]
        self.socket.setblocking(False)  # type: ignore[attr-defined]


class _Journal(_Patient, logging.Handler):
    """The journal, with the ids of each message as fields; it may come and go, and may hang."""

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
    """A stream that may be a pipe nobody reads, or a file on a full disk."""

    def __init__(self, stream: TextIO | None) -> None:
        super().__init__(stream)
        self._room = select.poll()
        self._room.register(self.stream, select.POLLOUT)

    def _ready(self) -> bool:
        """Whether a line can be written: the reader of a pipe is waited for, but once and not for long."""
        return bool(self._room.poll(0 if self._lost else _READER_S * 1000))


def setup_logging(settings: LoggingSettings, ident: str, stream_fd: int | None = None) -> None:
    """Send the log of this process to syslog, to the journal, or to `stream_fd` (standard error where it is None).

    `settings.target` must say which by now. A second call replaces what the first has set.
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
