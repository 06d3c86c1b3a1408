"""How long to wait for a broker's answer about a queue. Pure."""

from __future__ import annotations


def patience_s(tries: int) -> float:
    """Seconds to wait for a broker's answer about a queue, after `tries` that had none (from 0), before the next try.

    Asked while a quorum queue elects its leader, RabbitMQ 3.10 answers 5 s later at the soonest, and at once when it is
    asked anew after the election. A broker that is only slow is given time after a few tries.
    """
    return 1.0 if tries < 5 else 10.0
