"""How long to wait for a broker's answer about a queue. Pure."""

from __future__ import annotations


def patience_s(tries: int) -> float:
    """Seconds to wait for a broker's answer about a queue, after `tries` that had none (from 0), before the next try.

    While a quorum queue elects its leader RabbitMQ 3.10 answers after 5 s at the soonest, but at once when it is asked
    anew after the election; so the first five tries are short. The next ones give time to a broker that is only slow.
    """
    return 1.0 if tries < 5 else 10.0
