"""The checks of `doctor` of the HTTP half, in their order. A host without it gets one line."""

from __future__ import annotations

import os
import pwd
import socket
from collections.abc import Iterator

from taskqueue.cli.checks import front_book
from taskqueue.cli.checks.front_here import front_is_here
from taskqueue.cli.operator import Operator
from taskqueue.config.load import Settings
from taskqueue.config.settings import GroupSettings
from taskqueue.errors import FrontUnavailable
from taskqueue.http.book.survey import Survey
from taskqueue.operations.checks import fronts
from taskqueue.operations.findings import Finding
from taskqueue.operations.front_overview import FrontSeen, see_front

_ANSWER_S = 5.0


def front(operator: Operator, settings: Settings, wanted: tuple[GroupSettings, ...]) -> Iterator[Finding]:
    """Everything that can be said of this host's front, its book and its webhook workers."""
    if not front_is_here(settings):
        yield fronts.none_here()
        return
    http = settings.http
    seen = _seen(operator, settings)
    yield from fronts.front(seen)
    found = front_book.look(http.book)
    yield from front_book.book(http, found, answers=seen.book is not None)
    yield from front_book.file(http)
    known = found if isinstance(found, Survey) and found.is_known else None
    yield from fronts.exposed(http, None if known is None else len(known.tokens))
    yield from fronts.targets(http, wanted)
    yield from fronts.webhook_workers(seen, "webhook" in operator.plugins, wanted, os.geteuid() == 0, _webhook_user())
    yield from fronts.paused(seen)
    if known is not None:
        yield from front_book.tokens(known)
        yield from front_book.fronts(http, known, socket.gethostname())
        yield from front_book.origins(known)
        yield from front_book.deaths(known)


def _seen(operator: Operator, settings: Settings) -> FrontSeen:
    try:
        with operator.front_of(settings.http, wait_s=_ANSWER_S) as asked:
            return see_front(asked)
    except FrontUnavailable as error:
        return FrontSeen("", trouble=str(error))


def _webhook_user() -> bool:
    try:
        pwd.getpwnam("taskqueue-webhook")
    except KeyError:
        return False
    return True
