"""Dispatch: messages wait in `taskqueue`; one dispatcher moves them to the queue of their worker type."""

from __future__ import annotations

from functools import partial

from bench.contenders.forwarders import Forwarders
from bench.contenders.ours import Ours
from bench.findings import Findings, Target, rows_of
from bench.lab import Lab
from bench.throughput import Entrant, alternate
from bench.workitems import Batch

ROUNDS = 7
"""The C forwarder's rate differs by a third from round to round, on a machine with nothing else to do."""
TARGET = Target(at_least=0.75)


def measure(lab: Lab) -> Findings:
    """Both kinds of queue, each with its limit."""
    findings = Findings()
    batch = Batch(lab.count_of(100_000, 5_000))
    for kind in ("quorum", "classic"):
        ours = partial(Ours, pools=False, amqp={"ingress_queue_type": kind, "queue_type": kind})
        limit = partial(Forwarders, hops=1, ingress_queue_type=kind, queue_type=kind)
        entrants = {"ours": Entrant(ours, batch), "limit": Entrant(limit, batch)}
        found = alternate(lab, lab.rounds_of(ROUNDS), f"dispatch, {kind}", entrants, findings)
        if found.keys() == entrants.keys():
            rates = {passes.name: passes.rate.values for passes in found.values()}
            findings.rows += rows_of("dispatch", f"{kind} queues", "/s", rates, TARGET)
    return findings
