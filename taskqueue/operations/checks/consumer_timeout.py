"""Checks the broker's `consumer_timeout` beside the time limits of the groups: leases must be renewed within it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator

from taskqueue.config.settings import GroupSettings
from taskqueue.operations.broker import Broker
from taskqueue.operations.checks.reachability import is_loopback
from taskqueue.operations.findings import Finding, ok, warning
from taskqueue.protocol import queues

_SHORTEST_TIMEOUT_S = 3 * queues.LEASE_AFTER_S
"""Seconds of `consumer_timeout` that leases are made for: two renewals in time, one of which may fail."""


def consumer_timeout(broker: Broker, groups: Iterable[GroupSettings]) -> Iterator[Finding]:
    """The broker's `consumer_timeout` beside the time limits of the groups."""
    limits = {group.name: group.time_limit_s for group in groups}
    timeout_s = _consumer_timeout_s(broker)
    longest = max(limits, key=lambda name: limits[name] or float("inf"), default=None)
    tasks = "no group runs here"
    if longest is not None:
        limit_s = limits[longest]
        tasks = f"{longest} may run {f'{limit_s:g} s' if limit_s else 'for ever'}"
    lease = f"what runs longer than {queues.LEASE_AFTER_S:g} s is leased, and so not bound by it"
    if timeout_s is not None and timeout_s < _SHORTEST_TIMEOUT_S:
        yield warning(
            "consumer_timeout", f"{timeout_s:g} s at the broker; {tasks}",
            f"consumer_timeout = {_SHORTEST_TIMEOUT_S * 1000:.0f} or more in rabbitmq.conf: leases need so long",
        )  # fmt: skip
    else:
        known = "not known here" if timeout_s is None else "none" if timeout_s == float("inf") else f"{timeout_s:g} s"
        yield ok("consumer_timeout", f"{known}; {tasks}; {lease}")


def _consumer_timeout_s(broker: Broker) -> float | None:
    """As rabbitmqctl says, where it can be run here and its node is of our cluster; infinity for none."""
    program = shutil.which("rabbitmqctl", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None or not is_loopback(broker.server.host.rpartition(":")[0].strip("[]")):
        return None
    question = "{rabbit_nodes:cluster_name(), application:get_env(rabbit, consumer_timeout)}."
    try:
        ran = subprocess.run(
            [program, "-q", "-t", "10", "eval", question], stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=20.0, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    answer = re.fullmatch(r'\{<<"(.*)">>,\s*(?:\{ok,\s*(\d+|undefined)\}|(undefined))\}', ran.stdout.strip())
    if answer is None or answer[1] != broker.server.cluster_name:
        return None
    return int(answer[2]) / 1000 if (answer[2] or "").isdigit() else float("inf")
