"""Whether the HTTP half is set up on this host: most hosts have none, and must hear nothing of it."""

from __future__ import annotations

from pathlib import Path

from taskqueue.cli.operator import own_address
from taskqueue.config.load import Settings
from taskqueue.errors import FrontUnavailable
from taskqueue.operations.front import Front

_PROBE_S = 2.0


def front_is_here(settings: Settings) -> bool:
    """Whether the config has a section of the front, its book's file exists, or a front answers at its address."""
    return bool(settings.http_sections()) or _has_book(settings.http.book) or _answers(settings)


def _has_book(book: str) -> bool:
    try:
        return book.startswith("sqlite:") and Path(book.removeprefix("sqlite:")).exists()
    except OSError:
        return True  # in a directory that is closed to us


def _answers(settings: Settings) -> bool:
    """Another program may have the port of the default: only a front says `book`."""
    try:
        with Front(own_address(settings.http), certificate=settings.http.tls_cert, wait_s=_PROBE_S) as front:
            _status, document, _reason = front.answer("GET", f"{settings.http.base_path}/health/ready")
    except FrontUnavailable:
        return False
    return isinstance(document, dict) and "book" in document
