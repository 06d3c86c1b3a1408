"""One attempt: the request, the redirects that it may follow, and one clear line for what came of it.

A target answers 307 with `Location: /b`, and `follow_redirects` is 1: `deliver` sends the same request to `/b`, and its
answer is the attempt's. Each hop is a URL like any other: checked, and its address judged. All of it has one deadline.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import monotonic
from urllib.parse import urljoin

import pycurl

from taskqueue.targets.policy import Verdict
from taskqueue.targets.urls import ParsedUrl, TargetRefused, check_url
from taskqueue.webhook.answers import value_of
from taskqueue.webhook.exchange import CONNECT_TIMEOUT_MS, Exchange, Sent, reason_of
from taskqueue.webhook.request import WebRequest
from taskqueue.webhook.transfers import Transfers

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_WOULD_BECOME_GET = frozenset({301, 302, 303})
_CREDENTIALS = re.compile(r"(?i)auth|cookie|token|secret|password|api-?key|session|credential")
"""Names of headers that are for one origin only."""
_TLS = frozenset(
    getattr(pycurl, name)
    for name in (
        "E_SSL_CONNECT_ERROR", "E_PEER_FAILED_VERIFICATION", "E_SSL_CACERT", "E_SSL_CACERT_BADFILE",
        "E_SSL_CERTPROBLEM", "E_SSL_CIPHER", "E_SSL_ENGINE_INITFAILED", "E_SSL_ISSUER_ERROR",
        "E_SSL_INVALIDCERTSTATUS", "E_SSL_PINNEDPUBKEYNOTMATCH",
    )
    if hasattr(pycurl, name)
)  # fmt: skip
_UNSAID = (("content-type", b"Content-Type:"), ("accept", b"Accept:"), ("expect", b"Expect:"))
"""Headers that libcurl would add by itself, and the lines that tell it not to."""
_LOST = frozenset({pycurl.E_GOT_NOTHING, pycurl.E_RECV_ERROR, pycurl.E_SEND_ERROR, pycurl.E_SEND_FAIL_REWIND})
Headers = Sequence[tuple[str, str]]


@dataclass(slots=True)
class Delivered:
    """What came of an attempt."""

    outcome: str
    """`answered`, `timeout`, `connect`, `dns`, `tls`, `denied` or `error`."""
    error: str | None = None
    """One line; None for an answer that nothing was wrong with."""
    status: int | None = None
    """Of an answer."""
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    truncated: bool = False
    address: str | None = None


async def deliver(transfers: Transfers, request: WebRequest, headers: Headers) -> Delivered:
    """Make the request with all `headers` of this attempt. It raises nothing for what a target does."""
    deadline = monotonic() + request.timeout_s
    target, left = request.target, request.follow_redirects
    while True:
        remaining = deadline - monotonic()
        sent = _sent(request, target, headers, remaining)
        exchange = await transfers.perform(sent)
        if exchange.error:
            return _failed(exchange, target, request.timeout_s, over=monotonic() >= deadline - 0.002)
        answer = Delivered(
            "answered", None, exchange.status, exchange.headers, exchange.body, exchange.truncated, exchange.address
        )
        if exchange.status not in _REDIRECTS or not request.follow_redirects:
            return answer
        location = value_of(exchange.headers, "location")
        if location is None:
            return answer
        if not left:
            answer.error = f"redirected more often than follow_redirects allows, {request.follow_redirects}"
            return answer
        try:
            following = _next(request, target, exchange.status, location)
        except TargetRefused as refusal:
            answer.error = f"redirect not followed: {refusal}"
            return answer
        if following.origin != target.origin:
            headers = [pair for pair in headers if _CREDENTIALS.search(pair[0]) is None]
        target, left = following, left - 1


def _sent(request: WebRequest, target: ParsedUrl, headers: Headers, timeout_s: float) -> Sent:
    lines = [(f"{name}: {value}" if value else f"{name};").encode() for name, value in headers]
    lowered = {name.lower() for name, _ in headers}
    lines += [line for name, line in _UNSAID if name not in lowered]
    host = target.host if target.address is None else None
    return Sent(target.url, host, request.method, lines, request.body, timeout_s, request.keep_response)


def _next(request: WebRequest, target: ParsedUrl, status: int, location: str) -> ParsedUrl:
    """Where a redirect leads. Raises `TargetRefused` for one that is not followed."""
    if status in _WOULD_BECOME_GET and request.method not in {"GET", "HEAD"}:
        raise TargetRefused(f"a {status} would turn {request.method} into GET; expected 307 or 308")
    try:
        following = check_url(urljoin(target.url, location))
    except ValueError as error:
        raise TargetRefused("its Location is no URL") from error
    if target.scheme == "https" and following.scheme == "http":
        raise TargetRefused("it leads from https to http")
    return following


def denied(verdict: Verdict) -> Delivered:
    """The outcome of a refusal. It never tells the address: a name's may be nobody's business."""
    return Delivered(
        "denied", f"the target is denied by the rule {verdict.rule}; in [webhook] this opens it: {verdict.key}"
    )


def _failed(exchange: Exchange, target: ParsedUrl, timeout_s: float, *, over: bool) -> Delivered:
    """The outcome, and the line, for an error of libcurl's."""
    origin, error = target.origin, exchange.error
    reason = reason_of(exchange.errno) or exchange.message
    if exchange.refused is not None:
        return denied(exchange.refused)
    if error == pycurl.E_OPERATION_TIMEDOUT:
        if over:
            return Delivered("timeout", f"no answer from {origin} within {timeout_s:g} s", address=exchange.address)
        kind = "connect" if exchange.resolved or target.address is not None else "dns"
        seconds = CONNECT_TIMEOUT_MS / 1000
        return Delivered(kind, f"no connection to {origin} within {seconds:g} s", address=exchange.address)
    if error == pycurl.E_COULDNT_RESOLVE_HOST:
        return Delivered("dns", f"the name {target.host} cannot be resolved")
    if error == pycurl.E_COULDNT_CONNECT:
        return Delivered("connect", f"no connection to {origin}: {reason}", address=exchange.address)
    if error in _TLS:
        return Delivered("tls", f"TLS with {origin} failed: {exchange.message}", address=exchange.address)
    if exchange.too_many_headers:
        return Delivered("error", f"the headers of the answer from {origin} are too large", address=exchange.address)
    seen = f", after the status {exchange.status}" if exchange.status else ""
    if error == pycurl.E_PARTIAL_FILE or error in _LOST:
        line = f"the connection to {origin} was lost before the answer's end{seen}: {exchange.message}"
        return Delivered("connect", line, address=exchange.address)
    line = f"the answer from {origin} cannot be understood{seen}: {exchange.message}"
    return Delivered("error", line, address=exchange.address)
