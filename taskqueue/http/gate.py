"""Who may ask a front: the checks of a request before anything of it is read (design-http, section 7). Pure.

A front that only this host can reach (loopback, a unix socket) needs no tokens. Then it must not be used by others
through this host: not by a proxy, which would bring strangers, and not by a web page in somebody's browser, which can
send requests to 127.0.0.1 as well. So it refuses what a proxy or a web page adds, and a `Host` that is no loopback
name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from taskqueue.http.api.problems import Problem

_OF_PROXIES = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Prefix", "Via")
_LOOPBACK = re.compile(r"(localhost|127(\.[0-9]{1,3}){3}|\[::1\])?", re.IGNORECASE)
"""A name that leads to this host whatever a name server says."""


def refuse_strangers(headers: Mapping[str, str], *, unix: bool) -> None:
    """Check a request to a front without tokens. `unix`: it came over a unix socket, whose Host means nothing. Raises
    `Problem`."""
    for name in _OF_PROXIES:
        if name in headers:
            raise Problem(
                "exposed-without-tokens",
                f"The request carries {name}: a proxy brings it, so that strangers may reach this front. Make a token "
                "(taskqueue http token add NAME --scope enqueue), and name the proxy in [http] trusted_proxies.",
            )
    if headers.get("Sec-Fetch-Site", "none") not in {"none", "same-origin"}:
        raise Problem("forbidden-origin", "A web page of another site sent this request, and this front has no tokens.")
    host = headers.get("Host", "")
    origin = headers.get("Origin")
    if origin is not None and origin.partition("://")[2] != host:
        raise Problem(
            "forbidden-origin", f"A web page of {origin:.100} sent this request, and this front has no tokens."
        )
    if not unix and _LOOPBACK.fullmatch(_name_of(host)) is None:
        raise Problem(
            "forbidden-origin",
            f"The request is for the host {host:.100}; this front has no tokens, and answers for localhost only.",
        )


def _name_of(host: str) -> str:
    """The name of a `Host`, without its port."""
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0].lower()
