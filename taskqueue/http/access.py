"""Who asks, and whether they may: tokens and their scopes, unix sockets, and fronts that only this host reaches.

- A unix socket is for the group taskqueue alone: whoever can connect may do everything.
- A front with tokens: every request names one (`Authorization: Bearer`, or Google's `x-goog-api-key`).
- A front without tokens, on loopback: everybody on this host may do everything, and `gate` refuses strangers.
"""

from __future__ import annotations

import socket
import time

from aiohttp import web

from taskqueue.config.http_settings import HttpSettings
from taskqueue.errors import DaemonError
from taskqueue.http import gate
from taskqueue.http.api.problems import Problem
from taskqueue.http.book.tokens import Token, digest


class Access:
    """`tokens` are those of the book, by digest; `take` gets them anew."""

    def __init__(self, settings: HttpSettings, tokens: dict[str, Token]) -> None:
        self._settings = settings
        self._tokens = tokens

    def configure(self, settings: HttpSettings) -> None:
        """The config was loaded anew."""
        self._settings = settings

    def take(self, tokens: dict[str, Token]) -> None:
        """The tokens as the book has them now."""
        self._tokens = tokens

    def require_tokens(self) -> None:
        """Raises `DaemonError` where strangers could reach the front, and there is no token."""
        if self._settings.exposed and not self._tokens:
            strangers = [each for each in self._settings.listen if not HttpSettings(listen=(each,)).loopback_only]
            why = f"listens on {', '.join(strangers)}" if strangers else "has base_path or trusted_proxies"
            raise DaemonError(
                f"the front {why}, so that others than this host may reach it, and it has no tokens; make one: "
                "taskqueue http token add NAME --scope enqueue, or listen on 127.0.0.1 only"
            )

    def check(self, request: web.BaseRequest, scope: str, queue: str | None) -> str:
        """Who asks, by the name of the token; raises `Problem` where they may not. `scope` `none` is for everybody."""
        transport = request.transport
        sock = None if transport is None else transport.get_extra_info("socket")
        unix = sock is not None and sock.family == socket.AF_UNIX
        if unix:
            gate.refuse_strangers(request.headers, unix=True)
            return "unix"
        if not self._tokens:
            gate.refuse_strangers(request.headers, unix=False)
            return "local"
        if scope == "none":
            return "anybody"
        token = self._token(request)
        if not token.allows(scope, queue):
            raise Problem("forbidden", f"The token {token.name} has no scope {scope}.")
        return token.name

    def _token(self, request: web.BaseRequest) -> Token:
        kind, _, secret = request.headers.get("Authorization", "").partition(" ")
        if kind.lower() != "bearer":
            secret = request.headers.get("x-goog-api-key", "")
        token = self._tokens.get(digest(secret.strip())) if secret.strip() else None
        if token is None or (token.expires_ms is not None and token.expires_ms <= time.time() * 1000):
            raise Problem(
                "unauthorized", "Send a token: Authorization: Bearer TOKEN.", headers={"WWW-Authenticate": "Bearer"}
            )
        return token
