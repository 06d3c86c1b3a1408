"""The checks of `doctor` that need the front's book: its file, its version, tokens, fronts, origins, what died."""

from __future__ import annotations

import os
import pwd
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from taskqueue.config.http_settings import HttpSettings
from taskqueue.errors import BookUnavailable
from taskqueue.host.spawn import SERVICE_USER
from taskqueue.http.book.bookkeeper import Transaction
from taskqueue.http.book.opening import connect
from taskqueue.http.book.queue_rows import config_hash
from taskqueue.http.book.survey import Survey, survey
from taskqueue.operations.findings import Finding, ok, problem, warning
from taskqueue.operations.wording import moment

_SQLITE = "sqlite:"


def look(book: str) -> Survey | BookUnavailable:
    """The survey of a book, or why there is none."""
    try:
        connection = connect(book, read_only=True)
    except BookUnavailable as error:
        return error
    try:
        return survey(Transaction(connection, connection.clock_ms() or int(time.time() * 1000)))
    except BookUnavailable as error:
        return error
    finally:
        connection.close()


def book(http: HttpSettings, found: Survey | BookUnavailable, *, answers: bool) -> Iterator[Finding]:
    """Whether the book can be reached, and is of this version. `answers`: whether the front does."""
    if isinstance(found, BookUnavailable):
        if "ermission denied" in str(found):
            yield warning("book", str(found), "run taskqueue doctor as root")
        elif http.book.startswith(_SQLITE) and "No such file" in str(found) and not answers:
            yield ok("book", f"{http.book} does not exist yet; the front makes it at its start")
        else:
            yield problem("book", str(found), "mend `book` in [http], or start the database")
        return
    shown = f"version {found.version}, this program's is {found.wanted}"
    if found.version == 0:
        yield ok("book", "it is empty; the front makes its tables at its start")
    elif found.version < found.wanted:
        yield problem("book", f"the tables are older than this program: {shown}", "taskqueue http migrate")
    elif found.version > found.wanted + 1:
        yield problem(
            "book", f"the tables are newer than this program: {shown}", "install that newer taskqueue here, too"
        )
    elif found.version > found.wanted:
        yield warning("book", f"the tables are newer than this program: {shown}", "upgrade taskqueue here, too")
    else:
        yield ok("book", f"reached, its tables are of version {found.version}")


def file(http: HttpSettings) -> Iterator[Finding]:
    """Whether others than the front may read or write an SQLite book, and whether the front may."""
    if not http.book.startswith(_SQLITE):
        return
    path = Path(http.book.removeprefix(_SQLITE))
    try:
        directory, found = path.parent.stat(), path.stat() if path.exists() else None
    except OSError:
        return  # `book` has said it
    if directory.st_mode & stat.S_IWOTH and not directory.st_mode & stat.S_ISVTX:
        yield problem("permissions", f"{path.parent}: everybody may replace the book in it", f"chmod o-w {path.parent}")
    if found is None:
        return
    mode = stat.S_IMODE(found.st_mode)
    if mode & (stat.S_IROTH | stat.S_IWOTH):
        yield problem(
            "permissions", f"{path} has mode {mode:04o}: everybody may read bodies, and the digests of tokens",
            f"chmod 600 {path}*",
        )  # fmt: skip
    elif (user := _wrong_owner(found.st_uid)) is not None:
        yield problem(
            "permissions", f"{path} is {user}'s: a front that runs as {SERVICE_USER} cannot write it",
            f"chown {SERVICE_USER}: {path}*",
        )  # fmt: skip
    else:
        yield ok("permissions", f"{path} has mode {mode:04o}")


def _wrong_owner(uid: int) -> str | None:
    """The name of the owner, where root starts the front as the service's user and the file is somebody else's."""
    try:
        service = pwd.getpwnam(SERVICE_USER).pw_uid
    except KeyError:
        return None
    if os.geteuid() != 0 or uid == service:
        return None
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def tokens(found: Survey) -> Iterator[Finding]:
    """Tokens that nobody can use any more."""
    expired = [each for each in found.tokens if each.expires_ms is not None and each.expires_ms <= found.now_ms]
    for each in expired:
        assert each.expires_ms is not None
        yield warning(
            "tokens", f"{each.name} expired at {moment(each.expires_ms / 1000)}",
            f"taskqueue http token remove {each.name}; then add a new one, if it is still needed",
        )  # fmt: skip
    if found.tokens and not expired:
        yield ok("tokens", f"{len(found.tokens)}, none has expired")


def fronts(http: HttpSettings, found: Survey, host: str) -> Iterator[Finding]:
    """Whether all fronts on this book have the same queues in their config, and this host's those of its file."""
    by_hash: dict[str, list[str]] = {}
    for each in found.fronts:
        by_hash.setdefault(each.config_hash, []).append(each.host)
    if len(by_hash) > 1:
        named = " / ".join(", ".join(sorted(set(hosts))) for hosts in by_hash.values())
        yield warning(
            "fronts", f"their configs have different queues, and the last one loaded wins: {named}",
            "make the sections [http] queues and [http_…] equal, then systemctl reload python-taskqueue-http on each",
        )  # fmt: skip
    mine = [each for each in found.fronts if each.host == host]
    if any(each.config_hash != config_hash(http.queues) for each in mine):
        yield warning(
            "fronts", "the queues of the config are not those that the front of this host has loaded",
            "systemctl reload python-taskqueue-http",
        )  # fmt: skip
    elif found.fronts and len(by_hash) == 1:
        yield ok("fronts", f"{len(found.fronts)}: {', '.join(sorted({each.host for each in found.fronts}))}")


def origins(found: Survey) -> Iterator[Finding]:
    """Origins to which nothing is sent now."""
    for each in found.origins:
        until = moment(each.rests_until_ms / 1000)
        host = each.origin.partition("://")[2].rpartition(":")[0]
        why = f"after {each.failures} failures in a row" if each.opened else "as it asked (Retry-After)"
        yield warning(
            "origins", f"{each.origin} rests until {until}, {why}",
            f"taskqueue tasks list --text {host}; it is tried again by itself",
        )  # fmt: skip


def deaths(found: Survey) -> Iterator[Finding]:
    """Tasks that died within the last day."""
    for each in found.deaths:
        yield warning(
            "dead tasks", f"{each.count} of queue {each.queue} for {each.target} within the last day",
            f"taskqueue tasks list --queue {each.queue} --state dead; then tasks retry ID",
        )  # fmt: skip
    if not found.deaths:
        yield ok("dead tasks", "none within the last day")
