"""What a front says of a URL whose host is a literal address: what the webhook worker would refuse is refused at once.

A name is not resolved here, for its answer can change: the worker judges the address that it connects to.
"""

from __future__ import annotations

from taskqueue.config.http_settings import HttpSettings
from taskqueue.http.api.target_rules import Judge
from taskqueue.targets.policy import judge, make_policy
from taskqueue.targets.urls import ParsedUrl


def literal_judge(settings: HttpSettings) -> Judge:
    """Why a URL is denied whose host is a literal address, as a phrase; None: it is not, or its host is a name."""
    policy = make_policy(settings.targets or ("public" if settings.exposed else "private"))

    def denied(url: ParsedUrl) -> str | None:
        if url.address is None:
            return None
        verdict = judge(url.address, url.port, policy)
        if verdict.allowed:
            return None
        return f"must not be for {url.host}, port {url.port}: the rule {verdict.rule} denies it"

    return denied
