"""Where the book is, as config.ini says it: `sqlite:/path` or a `postgresql://` URL, whose password is for nobody.

`parse("postgresql://me:secret@db/taskqueue")` gives the same text; `shown` of it gives `postgresql://me:…@db/taskqueue`.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit, urlunsplit

from taskqueue.config.values import BadValue

_EXPECTED = "expected sqlite:/path/of/a/file, or postgresql://user:password@host/database"


def parse(given: str) -> str:
    """The same text. Raises `BadValue` without it, for it may have a password in it."""
    if given.startswith("sqlite:"):
        if not given.startswith("sqlite:/") or given.endswith("/") or not given.isprintable():
            raise BadValue(f"sqlite: without the absolute path of a file; {_EXPECTED}")
        return given
    try:
        parts = urlsplit(given)
    except ValueError:
        raise BadValue(f"no URL; {_EXPECTED}") from None
    if parts.scheme not in {"postgresql", "postgres"} or not given.isprintable() or " " in given:
        raise BadValue(f"neither kind of book; {_EXPECTED}")
    if parts.fragment or "@" in parts.path + parts.query:
        raise BadValue(f"a character of the password ends it; {_EXPECTED}, with / ? # @ as %2F %3F %23 %40")
    if not parts.path.strip("/"):
        raise BadValue(f"no database; {_EXPECTED}")
    return given


def shown(book: str) -> str:
    """`book` for people and logs: a password in it is `…`."""
    if book.startswith("sqlite:"):
        return book
    parts = urlsplit(book)
    userinfo, at, host = parts.netloc.rpartition("@")
    user, colon, _password = userinfo.partition(":")
    netloc = f"{user}{':…' if colon else ''}{at}{host}"
    query = re.sub(r"(?i)(password=)[^&]*", r"\1…", parts.query)
    return urlunsplit(parts._replace(netloc=netloc, query=query))
