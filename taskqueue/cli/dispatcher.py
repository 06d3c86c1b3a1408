"""The program `taskqueue-dispatcher`: reads its command line, builds the service, runs the loop until the end."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Sequence

from taskqueue.cli.daemon_options import OK, Command, run
from taskqueue.dispatcher.service import Service
from taskqueue.foundation.loop import Loop, settle_in
from taskqueue.host import daemon, kernel, service_manager
from taskqueue.host.spawn import identity
from taskqueue.host.title import set_title

NAME = "taskqueue-dispatcher"

log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """The console script; gives the exit status."""
    return run(NAME, "Dispatch workitems from the queue taskqueue to the queue of their worker type.", argv, _serve)


def _serve(command: Command) -> int:
    settings = command.settings
    with daemon.daemonized(command.options, settings.logging, become=identity(None)):
        kernel.hide_memory()  # it holds the broker's password; a worker may run as the same user
        loop = Loop()
        service = Service(loop, command.load, settings)
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.on_signal(signum, service.stop)
        loop.on_signal(signal.SIGHUP, service_manager.reloading(service.reload))
        set_title("dispatcher")
        service.start()
        service_manager.notify("READY=1")
        service_manager.feed_watchdog(loop)
        log.info("dispatcher started")
        settle_in()
        loop.start()
        log.info("dispatcher stopped: dispatched=%d dead=%d", service.dispatched, service.dead)
    return OK


if __name__ == "__main__":
    sys.exit(main())
