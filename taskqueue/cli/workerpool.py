"""The program `taskqueue-workerpool`: reads its command line, builds the pool's parts, runs the loop until the end."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Sequence

from taskqueue.cli.daemon_options import OK, Command, run
from taskqueue.foundation.loop import Loop
from taskqueue.host import daemon, kernel, service_manager
from taskqueue.host.title import set_title
from taskqueue.pool.pool import Workerpool

NAME = "taskqueue-workerpool"
_MARGIN_S = 15.0
"""Seconds that the end of all groups may take beyond `stop_timeout`; after that the service manager kills the pool."""

log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """The console script; gives the exit status."""
    return run(NAME, "Run the workers of every installed plugin, as the config says.", argv, _serve)


def _serve(command: Command) -> int:
    options = command.options
    with daemon.daemonized(options, command.settings.logging) as log_fd:
        loop = Loop()
        pool = Workerpool(
            loop,
            command.load,
            logs=lambda settings: daemon.log_settings(options, settings.logging),
            log_fd=log_fd,
            on_stopped=loop.stop,
            descriptor_limit=kernel.raise_descriptor_limit(),  # each group needs four, each reader of the status one
        )

        def stop() -> None:
            service_manager.stopping(pool.stop_timeout_s + _MARGIN_S)
            pool.stop()

        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.on_signal(signum, stop)
        loop.on_signal(signal.SIGHUP, service_manager.reloading(pool.reload))
        set_title("workerpool")
        options.runtime_dir.mkdir(mode=0o755, exist_ok=True)
        pool.start(options.runtime_dir / "workerpool.sock")
        service_manager.notify("READY=1")
        service_manager.feed_watchdog(loop)
        log.info("workerpool started: pid=%d", os.getpid())
        loop.start()
        log.info("workerpool stopped")
    return OK


if __name__ == "__main__":
    sys.exit(main())
