"""Checks of this host's front, as far as they need no book: whether it answers, what it says, who may reach it, and
what its webhook workers need here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from taskqueue.config.http_settings import HttpSettings
from taskqueue.config.settings import GroupSettings
from taskqueue.operations.checks.workerpool import POOL_SERVICE
from taskqueue.operations.findings import Finding, ok, problem, warning
from taskqueue.operations.front_overview import FrontSeen

_SERVICE = "python-taskqueue-http"
_WEBHOOK, _WEBHOOK_USER = "webhook", "taskqueue-webhook"


def none_here() -> Finding:
    """For the hosts that have no front: the only line that they see."""
    return ok("front", "none is set up on this host")


def front(seen: FrontSeen) -> Iterator[Finding]:
    """Whether the front answers, and how it is."""
    if seen.book is None:
        yield problem(
            "front", seen.trouble or "it does not answer", f"systemctl start {_SERVICE}; journalctl -u {_SERVICE}"
        )
        return
    reasons = "; ".join(seen.reasons)
    if seen.book != "up":
        yield problem("front", f"{seen.url} takes no tasks: {reasons}", "see what is said of the book")
    elif seen.broker != "up":
        yield problem(
            "front", f"{seen.url} takes tasks, and can hand out none: broker {reasons}",
            "see what is said of the connection; it connects by itself",
        )  # fmt: skip
    else:
        yield ok("front", f"{seen.url} answers, book and broker are up")


def paused(seen: FrontSeen) -> Iterator[Finding]:
    """Queues that somebody has paused, and that have something to do."""
    for queue in seen.queues:
        if queue.paused and (waiting := queue.counts["ready"] + queue.counts["retrying"]):
            yield warning(
                "task queues", f"{queue.name} is paused, {waiting} tasks wait", f"taskqueue queues resume {queue.name}"
            )


def exposed(http: HttpSettings, tokens: int | None) -> Iterator[Finding]:
    """Whether strangers can reach the front, and need a token. `tokens` is None where the book cannot say."""
    if not http.exposed:
        yield ok("exposure", f"only this host reaches {', '.join(http.listen)}")
    elif tokens == 0:
        yield problem(
            "exposure", f"{_why_exposed(http)}, and there are no tokens: the front refuses to start",
            "taskqueue http token add NAME --scope enqueue, or listen on 127.0.0.1 only",
        )  # fmt: skip
    elif http.tls_cert is None and not http.loopback_only:
        yield warning(
            "exposure", f"{_why_exposed(http)}: tokens and bodies go over the net in clear",
            "[http] tls_cert and tls_key, or a proxy with TLS before a front on 127.0.0.1",
        )  # fmt: skip
    elif tokens is not None:
        yield ok("exposure", f"{_why_exposed(http)}; {tokens} tokens")


def targets(http: HttpSettings, groups: Sequence[GroupSettings]) -> Iterator[Finding]:
    """How far the webhook workers of this host may reach, and why."""
    for group in groups:
        if group.worker_type != _WEBHOOK:
            continue
        said = str(group.own.get("targets") or "auto")
        if said == "auto":
            reach = str(group.own.get("auto_targets") or "public")
            why = (
                "targets: auto, and this host's front is not exposed"
                if reach == "private"
                else (
                    "targets: auto, and this host's front is exposed"
                    if http.exposed
                    else "targets: auto, no front is here"
                )
            )
        else:
            reach, why = said, f"[{group.name}] targets"
        narrowed = f"; hand-outs of fronts with this config: {http.targets}, by [http] targets" if http.targets else ""
        yield ok("targets", f"{group.name} may reach {_REACH.get(reach, reach)} ({why}){narrowed}")


_REACH = {
    "public": "the Internet only",
    "private": "the Internet, private addresses and loopback",
    "any": "every address but metadata and link-local",
}


def webhook_workers(
    seen: FrontSeen, installed: bool, groups: Sequence[GroupSettings], as_root: bool, user_exists: bool
) -> Iterator[Finding]:
    """Whether this host can run webhook workers, and as whom."""
    if not installed:
        if seen.book is not None:
            yield warning(
                "webhook", "the plugin webhook is not installed here (pycurl is missing): this host makes no request",
                "apt-get install python-taskqueue-http, or pip install taskqueue[http]; or run them on other hosts",
            )  # fmt: skip
        return
    ours = [group for group in groups if group.worker_type == _WEBHOOK]
    if not ours:
        yield warning(
            "webhook", "no webhook workers are to run on this host", "[workerpool] plugins may leave them out"
        )
    elif as_root and not user_exists and any(group.user is None for group in ours):
        yield warning(
            "webhook", f"the user {_WEBHOOK_USER} does not exist: webhook workers run as the daemons' user, and may "
            "read what it may", f"adduser --system --group {_WEBHOOK_USER}; systemctl restart {POOL_SERVICE}",
        )  # fmt: skip


def _why_exposed(http: HttpSettings) -> str:
    strangers = [each for each in http.listen if not HttpSettings(listen=(each,)).loopback_only]
    if strangers:
        return f"it listens on {', '.join(strangers)}"
    return "it stands behind a proxy (base_path or trusted_proxies)"
