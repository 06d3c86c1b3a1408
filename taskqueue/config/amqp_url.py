"""A broker's URL, as in `TASKQUEUE_AMQP_URL`, taken apart into the keys of [amqp].

`amqps://ada:s3cret@one,two:5673/%2F?heartbeat=30` gives the hosts one and two (the second with port 5673), user ada,
her password, vhost `/`, ssl, and a heartbeat of 30 seconds. This module must never put any part of a URL into a
message, for a mistyped URL may have the password in any place.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qsl, unquote

from taskqueue.config import values
from taskqueue.config.values import BadValue


def parse(url: str) -> dict[str, Any]:
    """The values of [amqp] that `url` gives: always host, port, vhost and ssl; none at all for an empty text.

    As https://www.rabbitmq.com/docs/uri-spec has it, but an empty path is the vhost `/`, and there can be several
    hosts. Raises `BadValue` without the URL.
    """
    if not url:
        return {}
    match = re.fullmatch(r"(amqps?)://(?:([^/?#@\s]*)@)?([^/?#@\s]*)(?:/([^?#@\s]*))?(?:\?([^#@\s]*))?", url, re.I)
    if match is None:
        raise BadValue("not a URL; expected amqp[s]://user:password@host:port/vhost, special characters as %XX")
    scheme, login, hosts, vhost, query = match.groups(default="")
    found: dict[str, Any] = {"ssl": scheme.lower() == "amqps", "port": None}
    try:
        found["host"] = values.hosts(hosts.split(",") if hosts else "localhost")
        found["vhost"] = unquote(vhost, errors="strict") or "/"
        user, *passwd = (unquote(part, errors="strict") for part in login.split(":", 1))
        found |= {"user": user} if user else {}
        found |= {"passwd": passwd[0]} if passwd else {}
        for name, value in parse_qsl(query, keep_blank_values=True):
            if name != "heartbeat":
                raise BadValue("unknown parameter after '?'; expected no other than heartbeat")
            found["heartbeat"] = values.seconds(value, "0", "65535")
    except UnicodeDecodeError:
        raise BadValue("bad encoding; expected UTF-8 as %XX") from None
    return found
