"""The listener's program: `python -m taskqueue.listener POOL_FD TEMPLATE_FD`, started by the pool as user taskqueue."""

from __future__ import annotations

import signal
import sys

from taskqueue.config.settings import amqp_from_json, group_from_json, logging_from_json
from taskqueue.errors import ConfigError
from taskqueue.foundation.loop import Loop, settle_in
from taskqueue.host import kernel
from taskqueue.host.logs import setup_logging
from taskqueue.host.title import set_title
from taskqueue.link import orders, packets
from taskqueue.listener.listener import Listener


def main() -> int:
    """`python -m taskqueue.listener POOL_FD TEMPLATE_FD`: started by the pool, as user taskqueue."""
    kernel.hide_memory()  # it holds the broker's password; a worker may run as the same user
    kernel.raise_descriptor_limit()  # it holds both ends of each worker's link
    pool, template = (packets.adopt(int(number)) for number in sys.argv[1:3])
    start = orders.receive_start(pool, orders.ListenerStart)
    if start is None:
        return 1
    settings = group_from_json(start.group)
    setup_logging(logging_from_json(start.logging), f"taskqueue-listener[{settings.name}]", start.log_fd)
    set_title(f"listener {settings.name}")
    for signum in (signal.SIGINT, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)  # Ctrl-C and reloads are the pool's
    loop = Loop()
    try:
        listener = Listener(loop, settings, amqp_from_json(start.amqp), start.results_ttl_s, pool, template)
    except ConfigError as error:
        orders.send(pool, orders.Failed(str(error)), wait=True)
        return 1
    listener.start()
    settle_in()
    loop.start()
    return 0


if __name__ == "__main__":
    sys.exit(main())
